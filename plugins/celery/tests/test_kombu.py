"""Other brokers through kombu: filesystem, with a real worker."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange
from taskq_exporter_celery.adapter import connect, diagnose, grants
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.testing import watch

pytestmark = pytest.mark.newest

URL = "filesystem://"
FINISHED = "taskq_tasks_finished_total"


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    for name in ("data", "control"):
        (tmp_path / name).mkdir()
    data = str(tmp_path / "data")
    return {"data_folder_in": data, "data_folder_out": data, "control_folder": str(tmp_path / "control")}


@pytest.fixture
def project(folders: dict[str, Any], make_project: Callable[..., Any]) -> Any:
    return make_project(URL, broker_transport_options={**folders, "polling_interval": 0.1})


def bindings(folders: dict[str, Any], exchange: str) -> list[Any]:
    return json.loads(Path(folders["control_folder"], f"{exchange}.exchange").read_text())


def make_source(folders: dict[str, Any], url: str = URL) -> Source:
    return Source(
        name="test", adapter="celery", url=lambda: url, options=CeleryOptions(transport_options=folders), timeout=5
    )


async def test_a_day_of_a_worker(project: Any, folders: dict[str, Any]) -> None:
    options = {"transport_options": folders, "inspect_interval": "2s"}
    source = {"adapter": "celery", "url": URL, "queues": {"expected": ["later"]}, **options}
    async with watch(source, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3, queue="later")
        worker = project.worker("-P", "solo").ready()
        project.send("ok", n=5)
        project.send("fail", n=2)
        page = await watched.until(lambda p: p.total(FINISHED) == 7, "all that finished is counted")
        finished = {k: n for k, n in page.by(FINISHED, "queue", "task", "outcome").items() if n}
        assert finished == {
            ("celery", "celery_project.ok", "succeeded"): 5,
            ("celery", "celery_project.fail", "failed"): 2,
        }
        assert page.value("taskq_tasks", queue="later", state="ready") == 3
        page = await watched.until(
            lambda p: (
                p.value("taskq_worker_slots", worker="w1@host") == 1
                and p.value("taskq_queue_consumers", queue="celery") == 1
            ),
            "the worker answers",
        )
        assert page.value("taskq_worker_up", worker="w1@host") == 1
        assert page.value("taskq_source_problems") == 0
        async with connect(make_source(folders)) as client:
            for _ in range(2):  # the queue for answers is made anew
                answers = await client.ask(["ping"], ["w1@host"], 10.0)
                assert answers.replies == {"ping": {"w1@host": {"ok": "pong"}}}
        worker.stop()
        await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it has said goodbye")
    # nothing of ours is left: neither bindings nor messages
    assert not [b for b in bindings(folders, "celeryev") if "taskq-exporter" in b[2]]
    async with asyncio.timeout(20):  # a question that nobody answers ends later
        while bindings(folders, "reply.celery.pidbox"):
            await asyncio.sleep(0.1)
    assert not list(Path(folders["data_folder_in"]).glob("*celeryev*"))


async def test_looking_changes_nothing(project: Any, folders: dict[str, Any]) -> None:
    project.send("ok", n=3)

    def dump() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for f in set(folders.values()) for p in Path(f).iterdir()}

    before = dump()
    queues = {"expected": ["celery", "nowhere"]}
    async with watch({"adapter": "celery", "url": URL, "transport_options": folders, "queues": queues}) as watched:
        for _ in range(20):
            page = await watched.page()
        assert page.value("taskq_tasks", queue="celery", state="ready") == 3
        assert page.value("taskq_tasks", queue="nowhere", state="ready") == 0
    assert dump() == before


async def test_pickle_is_never_read(folders: dict[str, Any]) -> None:
    source = {"adapter": "celery", "url": URL, "transport_options": folders, "inspect": False}
    async with watch(source, follow=True) as watched:
        await watched.following()
        with Connection(URL, transport_options=folders) as connection:
            producer = connection.Producer(exchange=Exchange("celeryev", type="topic"))
            event = {"type": "task-sent", "uuid": "1", "hostname": "h", "timestamp": time.time()}
            event |= {"name": "t", "queue": "q"}
            producer.publish(event, routing_key="task.sent", serializer="pickle")
            for serializer in ("json", "msgpack", "yaml"):
                producer.publish({**event, "uuid": serializer}, routing_key="task.sent", serializer=serializer)
        page = await watched.until(lambda p: p.total("taskq_tasks_enqueued_total") == 3, "the others are counted")
        assert page.value("taskq_source_events_dropped_total", reason="decode") == 1


async def test_what_a_killed_exporter_left_is_taken_over(folders: dict[str, Any]) -> None:
    """Its queue has the same name each time, so that it cannot fill up for ever."""
    source = make_source(folders)
    names = []
    for _ in range(2):
        async with connect(source) as client, client.subscribe():
            names += [b[2] for b in bindings(folders, "celeryev")]
    assert len(set(names)) == 1


@pytest.mark.parametrize(
    ("url", "reason", "text"),
    [
        (URL, Reason.CONNECT, "FileNotFoundError.*transport_options"),
        ("mongodb://u:secret@h/", Reason.UNSUPPORTED, "pymongo"),
    ],
)
async def test_what_is_wrong_is_said(tmp_path: Path, url: str, reason: Reason, text: str) -> None:
    options = {"transport_options": {"data_folder_in": str(tmp_path / "nowhere")}, "queues": {"expected": ["x"]}}
    async with watch({"adapter": "celery", "url": url, **options}) as watched:
        page = await watched.page()
        assert page.value("taskq_source_up") == 0
        assert watched.runner.error is not None
        assert watched.runner.error.reason is reason
        assert re.search(text, str(watched.runner.error))
        assert "secret" not in str(watched.runner.error)


async def test_diagnose_and_grants(folders: dict[str, Any]) -> None:
    source = make_source(folders)
    assert grants(source).startswith("# filesystem")
    async with connect(source) as client:
        texts = [finding.text for finding in await diagnose(source, client)]
    assert texts[0] == "no queue is known yet: this broker cannot list them"


async def test_brokers_without_events_are_refused() -> None:
    with pytest.raises(AdapterError, match="sqs is not supported") as caught:
        async with connect(make_source({}, "sqs://")):
            pass
    assert caught.value.reason is Reason.UNSUPPORTED
