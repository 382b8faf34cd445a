"""What the operator is told."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from taskq_exporter_django_tasks_redis import adapter
from taskq_exporter_django_tasks_redis.keys import LEVELS, STATUSES, Keys
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

from taskq_exporter.api import AdapterError, Reason, Source

django6 = pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")


def test_grants_are_scoped_to_the_backend(source_of: Any) -> None:
    line = adapter.grants(source_of("redis://localhost", prefix="shop", alias="bulk"))
    assert '\nACL SETUSER taskq_exporter on >PASSWORD "(~shop:bulk:* -@all +time ' in line
    assert '"(~sh\\\\*p:default:* ' in adapter.grants(source_of("redis://localhost", prefix="sh*p"))


@pytest.mark.py312
@django6
async def test_detects_backends_by_their_keys(make_project: Any, redis_url: str) -> None:
    env = {"REDIS_URL": redis_url}
    assert await adapter.detect(env) == []
    assert await adapter.detect({}) == []
    make_project(redis_url).enqueue("add")
    (found,) = await adapter.detect(env)
    assert (found.name, found.url, found.options) == ("django_tasks_redis", redis_url, {"alias": "default"})
    make_project(redis_url, alias="bulk").enqueue("add", backend="bulk")
    assert [d.name for d in await adapter.detect(env)] == ["django_tasks_redis/bulk", "django_tasks_redis"]
    assert redis_url not in repr(found)


async def test_detect_says_why_it_cannot_look(redis_own: Any) -> None:
    redis_own.stop()
    with pytest.raises(AdapterError) as raised:
        await adapter.detect({"REDIS_URL": redis_own.url})
    assert raised.value.reason is Reason.CONNECT


@pytest.mark.py312
@django6
async def test_diagnose(project: Any, source: Source) -> None:
    async def findings() -> dict[str, str]:
        async with adapter.connect(source) as client:
            return {f.text: f.level for f in await adapter.diagnose(client)}

    assert "no queue below django_tasks:default:" in await findings()
    project.enqueue("add", 3, queue_name="emails")
    assert "emails: 3 tasks are ready, and no worker reads the queue" in await findings()
    for _ in range(20):
        project.process("emails", worker_id=None)
    found = await findings()
    assert set(found.values()) == {"ok"}


@pytest.mark.py312
@django6
async def test_diagnose_sees_consumers_that_were_left_behind(project: Any, source_of: Any, redis_url: str) -> None:
    for _ in range(20):
        project.process("emails", worker_id=None)
    async with adapter.connect(source_of(redis_url, alive_within=0.001)) as client:
        assert "emails: 20 consumers of workers that are gone" in [f.text for f in await adapter.diagnose(client)]


@pytest.mark.parametrize(
    ("given", "seconds"), [("30d", 2592000), ("1m30s", 90), ("500ms", 0.5), (5, 5), (0.25, 0.25), ("1w", 604800)]
)
def test_durations(given: Any, seconds: float) -> None:
    assert DjangoTasksRedisOptions(overlap=given).overlap == seconds


@pytest.mark.parametrize("given", ["", "5", "s5", "1m 30s", -1, 0, "0s", True, None, float("inf")])
def test_no_durations(given: Any) -> None:
    with pytest.raises(ValidationError):
        DjangoTasksRedisOptions(overlap=given)


@pytest.mark.parametrize(
    ("key", "queue"),
    [
        ("p:a:emails:stream:high", "emails"),
        ("p:a:x:y:stream:low", "x:y"),
        ("p:a:emails:delayed", "emails"),
        ("p:a:emails:status_index:FAILED", "emails"),
        ("p:a:status_index:FAILED", None),
        ("p:a:emails:status_index:queue", None),
        ("p:a:result:0d5d1c7e", None),
        ("p:b:emails:delayed", None),
    ],
)
def test_the_queue_of_a_key(key: str, queue: str | None) -> None:
    assert Keys("p", "a").queue_of(key) == queue


@pytest.mark.parametrize("queue", ["q", "emails", "a:b", "result"])
def test_the_pattern_of_queue_keys_takes_each_of_them_and_no_result(queue: str) -> None:
    keys = Keys("p", "a")
    pattern = keys.queue_pattern  # of SCAN, which fnmatch takes alike
    for level in LEVELS:
        assert fnmatchcase(keys.stream(queue, level), pattern)
    for status in STATUSES:
        assert fnmatchcase(keys.status(status, queue), pattern)
    assert fnmatchcase(keys.delayed(queue), pattern)
    assert not any(fnmatchcase(keys.result(str(uuid4())), pattern) for _ in range(1000))
    assert not fnmatchcase(keys.results, pattern)
