"""Event messages: those that Celery sends in each serialization, and those that nobody should trust."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import time
from typing import Any

import pytest
import redis
from taskq_exporter_celery.events import UndecodableError, decode, exception_name

from taskq_exporter.testing import watch


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
async def test_serializers(redis_url: str, project: Any, serializer: str) -> None:
    """What Celery's own dispatcher sends is understood, single or buffered into a list."""
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        with project.app.connection_for_write() as connection:
            for group in ((), ("task",)):
                with project.app.events.Dispatcher(
                    connection, hostname="w1@host", serializer=serializer, buffer_group=group
                ) as dispatcher:
                    uuid = f"uuid-{serializer}-{group}"
                    dispatcher.send("task-sent", uuid=uuid, name="t", queue="q", retries=0, eta=None)
                    dispatcher.send("task-received", uuid=uuid, name="t", retries=0)
                    dispatcher.send("task-started", uuid=uuid)
                    # JSON alone can write half a surrogate pair, and does.
                    result = "\ud800" if serializer == "json" else "\U0001f600"
                    dispatcher.send("task-succeeded", uuid=uuid, runtime=0.25, result=result)
                    dispatcher.flush()
        page = await watched.until(lambda p: p.total("taskq_source_events_total") == 8, "all have come")
        assert page.value("taskq_tasks_finished_total", queue="q", task="t", outcome="succeeded") == 2
        assert page.value("taskq_task_run_duration_seconds_sum", queue="q", outcome="succeeded") == 0.5
        assert page.total("taskq_source_events_dropped_total") == 0


def envelope(body: bytes, content_type: str = "application/json") -> bytes:
    text = base64.b64encode(body).decode()
    return json.dumps(
        {"body": text, "content-type": content_type, "properties": {"body_encoding": "base64"}, "headers": {}}
    ).encode()


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


HOSTILE = {
    "bytes": b"\xff\x00",
    "no envelope": b"[]",
    "deep": b"[" * 100_000,
    "deep body": envelope(b"[" * 100_000),
    "no base64": json.dumps({"body": "ä", "content-type": "application/json", "properties": {}}).encode(),
    "pickle": envelope(pickle.dumps(Bomb()), "application/x-python-serialize"),
    "yaml object": envelope(b"!!python/object/apply:os.system [exit 1]", "application/x-yaml"),
    "yaml large": envelope(b"[" + b"a, " * 10_000 + b"]", "application/x-yaml"),
    "yaml deep": envelope(b"[" * 16_000, "application/x-yaml"),
    "yaml nested": envelope(b"[" * 40 + b"]" * 40, "application/x-yaml"),
    "yaml deep blocks": envelope(b"- " * 8_000, "application/x-yaml"),
    "yaml integer": envelope(b"!!int ''", "application/x-yaml"),
    "yaml timestamp": envelope(b"!!timestamp x", "application/x-yaml"),
    "yaml merges": envelope(b"a: &a {x: 1}\nb: {<<: [*a, *a]}", "application/x-yaml"),
    "msgpack deep": envelope(b"\x91" * 100_000, "application/x-msgpack"),
    "msgpack cut short": envelope(b"\x85\xa4type", "application/x-msgpack"),
    "no type": envelope(b"", "nonsense"),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_decoded(payload: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode(payload)


async def test_what_cannot_be_read_is_counted_and_harms_nothing(redis_url: str, project: Any) -> None:
    at = time.time()
    malformed: list[Any] = [
        1,
        {},
        {"type": "task-started", "hostname": "h", "timestamp": at},
        {"type": "task-started", "hostname": "h", "timestamp": float("nan"), "uuid": "x"},
        {"type": "task-started", "hostname": "h", "timestamp": "1", "uuid": "x"},
        {"type": "task-started", "hostname": ["h"], "timestamp": at, "uuid": "x"},
        {"type": ["task-started"], "hostname": "h", "timestamp": at, "uuid": "x"},
        {"type": "task-received", "hostname": "h", "timestamp": at, "uuid": "x", "name": {}},
        {"type": "task-sent", "hostname": "h", "timestamp": at, "uuid": 5, "name": "t", "queue": "q"},
        {"type": "task-sent", "hostname": "h", "timestamp": at, "uuid": "x", "name": "t", "queue": "q" * 513},
        {"type": "task-sent", "hostname": "h", "timestamp": at, "uuid": "x", "name": "t" * 513, "queue": "q"},
        {"type": "task-sent", "hostname": "h", "timestamp": at, "uuid": "x", "name": "t", "queue": "\ud800"},
        {"type": "task-received", "hostname": "h", "timestamp": at, "uuid": "x", "name": "t" * 513},
        {"type": "task-started", "hostname": "h", "timestamp": at, "uuid": "x" * 513},
        {"type": "worker-heartbeat", "hostname": "h" * 513, "timestamp": at},
    ]
    tolerable: list[Any] = [
        {"type": "task-sent", "hostname": "h", "timestamp": at, "uuid": "x", "name": "t", "queue": 5, "eta": [1]},
        {"type": "task-succeeded", "hostname": "h", "timestamp": at, "uuid": "x", "runtime": float("inf")},
        {"type": "task-succeeded", "hostname": "h", "timestamp": at, "uuid": "z", "runtime": 10**400},
        {"type": "task-failed", "hostname": "h", "timestamp": at, "uuid": "y", "exception": 5, "traceback": 5},
        {"type": "worker-heartbeat", "hostname": "h", "timestamp": at, "active": "x", "freq": None, "sw_ver": 1},
        {"type": "task-of-your-own", "hostname": "h", "timestamp": at},
    ]
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        with redis.Redis.from_url(redis_url) as client:
            for payload in HOSTILE.values():
                client.publish("/0.celeryev/task.multi", payload)
            client.publish("/0.celeryev/task.multi", envelope(json.dumps(malformed + tolerable).encode()))
        total = len(HOSTILE) + len(malformed) + len(tolerable)
        await watched.until(lambda p: p.total("taskq_source_events_total") == total, "all have come")
        await asyncio.sleep(1.5)  # as long as events are held back
        page = await watched.page()
        assert page.value("taskq_source_events_dropped_total", reason="decode") == len(HOSTILE) + len(malformed)
        assert page.total("taskq_tasks_finished_total") == 3
        assert page.value("taskq_source_errors_total", reason="bug") == 0
        assert watched.runner.following


LAST_LINES = '  File "/app/tasks.py", line 1, in odd\n    raise error\n'


@pytest.mark.parametrize(
    ("exception", "traceback", "name"),
    [
        ("ValueError('a(b')", None, "ValueError"),
        (
            "ExceptionWithTraceback()",
            f"Traceback:\n{LAST_LINES}billiard.exceptions.TimeLimitExceeded: (1,)\n",
            "TimeLimitExceeded",
        ),
        ("reject requeue=False: no", f"Traceback:\n{LAST_LINES}celery.exceptions.Reject: ('no', False)\n", "Reject"),
        ("<user bob>", f"Traceback:\n{LAST_LINES}app.Odd: secret\nbob: secret\n", "Odd"),
        ("bob", f"Traceback:\n{LAST_LINES}app.Odd\n", "Odd"),
        ("bob", "bob: secret\n", ""),
        ("bob", None, ""),
        ("None", f"Traceback:\n{LAST_LINES}celery.exceptions.Retry: Retry in 1s\n", ""),
        (
            "Retry(Retry(...), KeyError('a(b'), 0.0)",
            f"Traceback:\n{LAST_LINES}celery.exceptions.Retry: 1\n",
            "KeyError",
        ),
        ("Retry(Retry(...), None, 0.0)", f"Traceback:\n{LAST_LINES}celery.exceptions.Retry: Retry in 1s\n", ""),
        (None, None, ""),
    ],
)
def test_exception_names(exception: str | None, traceback: str | None, name: str) -> None:
    assert exception_name({"exception": exception, "traceback": traceback}) == name
