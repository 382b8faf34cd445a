"""Queues at rest, put there by Celery itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from taskq_exporter_celery import broker as brokers
from taskq_exporter_celery import collect as collecting
from taskq_exporter_celery.adapter import collect, connect
from taskq_exporter_celery.broker import Broker
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.unacked import Unacked

from taskq_exporter.api import AdapterError, Reason, Snapshot, Source
from taskq_exporter.testing import Page, watch


def of(page: Page, queue: str) -> dict[str, float]:
    return {state: n for (state,), n in page.by("taskq_tasks", "state", queue=queue).items()}


async def test_ready_is_summed_over_priority_steps(redis_url: str, project: Any) -> None:
    for priority, n in {0: 1, 3: 2, 5: 3, 9: 4}.items():
        project.send("ok", n=n, queue="emails", priority=priority)
    project.send("ok", n=7)
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
    assert of(page, "emails") == {"ready": 10, "scheduled": 0, "retry": 0, "reserved": 0}
    assert of(page, "celery")["ready"] == 7
    assert page.by("taskq_tasks_by_priority", "priority", queue="emails") == {
        ("0",): 1,
        ("3",): 5,  # 5 goes to the largest step that is not above it
        ("6",): 0,
        ("9",): 4,
    }
    assert page.value("taskq_source_problems") == 0


async def test_transport_options(redis_url: str, make_project: Callable[..., Any]) -> None:
    options = {"global_keyprefix": "app*1:", "priority_steps": [0, 5], "sep": ":"}
    project = make_project(redis_url, broker_transport_options=options)
    make_project(redis_url).send("ok", n=9, queue="of-another-application")
    project.send("ok", n=2, queue="emails", priority=0)
    project.send("ok", n=3, queue="emails", priority=7)
    async with watch({"adapter": "celery", "url": redis_url, **options}) as watched:
        page = await watched.page()
    assert page.by("taskq_tasks", "queue", state="ready") == {("emails",): 5}
    assert page.by("taskq_tasks_by_priority", "priority") == {("0",): 2, ("5",): 3}


async def test_an_empty_queue_stays_at_zero(redis_url: str, project: Any) -> None:
    project.send("ok", n=3, queue="emails")
    project.declare("never-used")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
        assert page.by("taskq_tasks", "queue", state="ready") == {("emails",): 3, ("never-used",): 0}
        with redis.Redis.from_url(redis_url) as client:
            client.delete("emails")  # what a worker leaves of an empty queue
        page = await watched.page()
    assert page.by("taskq_tasks", "queue", state="ready") == {("emails",): 0, ("never-used",): 0}


async def test_a_new_queue_is_read_at_once(redis_url: str, project: Any) -> None:
    """Its task-sent tells of it, long before the next search: 0 would be wrong."""
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        await watched.page()
        project.send("ok", n=3, queue="new")
        page = await watched.until(lambda p: p.total("taskq_tasks_enqueued_total") == 3, "the events have come")
        page = await watched.page()
        assert page.value("taskq_tasks", queue="new", state="ready") == 3


async def test_expected_and_excluded_queues(redis_url: str, project: Any) -> None:
    project.send("ok", n=3, queue="tmp.1")
    queues = {"expected": ["emails"], "exclude": ["tmp.*"]}
    async with watch({"adapter": "celery", "url": redis_url, "queues": queues}) as watched:
        page = await watched.page()
    assert page.by("taskq_tasks", "queue", state="ready") == {("emails",): 0}


async def test_each_database_is_a_source(redis_url: str, make_project: Callable[..., Any]) -> None:
    base = redis_url.rsplit("/", 1)[0]
    make_project(f"{base}/3").send("ok", n=2)
    async with watch({"adapter": "celery", "url": redis_url, "databases": [3]}) as watched:
        page = await watched.page()
    assert page.value("taskq_tasks", source="kit/3", queue="celery", state="ready") == 2


async def test_what_a_dead_worker_holds(redis_url: str, project: Any) -> None:
    """Prefetched, delayed and tried-again messages lie together in one hash; bodies of any size do not matter."""
    project.send("slow", 60, n=2)
    worker = project.worker("-c", "2", "--prefetch-multiplier", "100", queues="celery,emails").ready()
    project.send("ok", n=3, countdown=3600)
    project.send("ok", n=4, queue="emails")
    project.send("ok", "x" * 300_000, queue="emails")
    project.send("retry", 3600.0, queue="other")
    other = project.worker("-P", "threads", "-c", "1", name="w2@host", queues="other").ready()
    with redis.Redis.from_url(redis_url) as client:
        async with asyncio.timeout(20):
            # Two slow ones run and are acknowledged; all the others are held.
            while client.hlen("unacked") < 9 or not any(b'"retries": 1' in m for m in client.hvals("unacked")):
                await asyncio.sleep(0.05)
        worker.kill()
        other.kill()
        async with watch({"adapter": "celery", "url": redis_url}) as watched:
            page = await watched.page()
        assert of(page, "celery") == {"ready": 0, "scheduled": 3, "retry": 0, "reserved": 0}
        assert of(page, "emails") == {"ready": 0, "scheduled": 0, "retry": 0, "reserved": 4}
        assert of(page, "other") == {"ready": 0, "scheduled": 0, "retry": 1, "reserved": 0}
        assert of(page, "")["reserved"] == 1  # the large one was not fetched to see whose it is
        assert page.value("taskq_tasks_capped", queue="emails", state="reserved") == 1
        age = page.value("taskq_celery_unacked_oldest_age_seconds")
        assert age is not None
        assert 0 < age < 60


async def test_what_is_acknowledged_while_it_is_read_is_not_reserved(
    redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list of messages and their bodies some go: they are of no queue, and nothing is capped."""
    project.send("ok", n=3)
    with project.app.connection_for_read() as connection:
        channel = connection.default_channel
        held = [channel.basic_get("celery") for _ in range(3)]
        read = Unacked._fetch

        async def fetch(self: Unacked, tags: Any) -> Any:
            while len(held) > 1:
                held.pop().ack()
            return await read(self, tags)

        monkeypatch.setattr(Unacked, "_fetch", fetch)
        async with watch({"adapter": "celery", "url": redis_url}) as watched:
            page = await watched.page()
        assert page.by("taskq_tasks", "queue", state="reserved") == {("celery",): 1}
        assert not page.total("taskq_tasks_capped")


async def test_queues_that_are_not_looked_for_in_time_are_not_empty(
    redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the last search are read until the next one ends, also by the client after an error."""
    project.send("ok", n=3, queue="emails")
    source = Source(name="complete", adapter="celery", url=lambda: redis_url, options=CeleryOptions(), timeout=0.2)

    async def snapshot() -> Snapshot:
        async with connect(source) as client:
            return await collect(source, client)

    whole = await snapshot()
    assert whole.queues_complete

    async def hang(_: Broker) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(Broker, "_find_queues", hang)
    partial = await snapshot()
    assert not partial.queues_complete
    assert [problem.part for problem in partial.problems] == ["queues"]
    assert [(queue.name, queue.tasks) for queue in partial.queues] == [(q.name, q.tasks) for q in whole.queues]


@pytest.mark.parametrize("limit", [(collecting, "QUEUES"), (brokers, "BINDINGS")], ids=["queues", "bindings"])
async def test_too_many_queues(
    redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch, limit: tuple[Any, str]
) -> None:
    project.declare("a")
    with redis.Redis.from_url(redis_url) as client:
        (member,) = client.smembers("_kombu.binding.a")
        client.sadd("_kombu.binding.a", member.replace(b"a", b"b"))  # two queues of one exchange
    monkeypatch.setattr(*limit, 1)
    source = Source(name="many", adapter="celery", url=lambda: redis_url, options=CeleryOptions())
    async with connect(source) as broker:
        found = await collect(source, broker)
    assert not found.queues_complete
    assert [(problem.part, problem.reason) for problem in found.problems] == [("queues", Reason.COST)]
    assert len(found.queues) < 2


async def test_a_key_of_another_type_is_a_problem_of_that_queue(redis_url: str, project: Any) -> None:
    project.send("ok")
    project.declare("broken")
    with redis.Redis.from_url(redis_url) as client:
        client.set("broken", "1")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
    assert page.value("taskq_source_up") == 1
    assert page.value("taskq_source_problems") == 1
    assert page.value("taskq_tasks", queue="celery", state="ready") == 1
    assert page.value("taskq_tasks_by_priority", queue="celery", priority="0") == 1
    assert page.value("taskq_tasks_by_priority", queue="broken", priority="0") is None


async def test_another_broker_says_so() -> None:
    """Also where the URL is not in the configuration, which would refuse it: in a file."""
    url = "amqp://guest:hunter2@localhost//"
    source = Source(name="rabbit", adapter="celery", url=lambda: url, options=CeleryOptions())
    with pytest.raises(AdapterError, match="amqp") as error:
        async with connect(source):
            pass
    assert error.value.reason is Reason.UNSUPPORTED
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"priority_steps": []}, "at least 1"),
        ({"heartbeat_timeout": "soon"}, "not a duration"),
        ({"database": -1}, "greater than or equal to 0"),
        ({"databse": 1}, "databse"),
    ],
)
def test_wrong_options(option: dict[str, Any], message: str) -> None:
    from pydantic import ValidationError
    from taskq_exporter_celery.options import CeleryOptions

    with pytest.raises(ValidationError, match=message):
        CeleryOptions.model_validate(option)
