"""Queues at rest, put there by Celery itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from taskq_exporter_celery.adapter import collect, connect
from taskq_exporter_celery.on_redis import bindings, held
from taskq_exporter_celery.on_redis import collect as collecting
from taskq_exporter_celery.on_redis.bindings import Bindings, QueueSearch
from taskq_exporter_celery.on_redis.unacked import Unacked
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import AdapterError, Reason, Snapshot, Source
from taskq_exporter.testing import Page, Watch, watch


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


def test_the_queue_of_a_message() -> None:
    """By exchange and routing key; none where several get it, or nobody knows."""
    known = Bindings()
    known.replace({"direct": [("a", "qa"), ("b", "qb")], "fanout": [("", "q1"), ("", "q2")], "topic": [("x.*", "qx")]})
    assert known.queues == {"qa", "qb", "q1", "q2", "qx"}
    assert known.queue("", "named") == "named"
    assert (known.queue("direct", "a"), known.queue("direct", "c")) == ("qa", "")
    assert (known.queue("fanout", ""), known.queue("topic", "x.y"), known.queue("other", "a")) == ("", "qx", "")
    known.update({"topic": [("x.*", "qx"), ("y.*", "qy")]})
    assert (known.queue("topic", "x.y"), known.queue("topic", "y.*"), known.queue("direct", "b")) == ("", "qy", "qb")
    known.replace({})
    assert not known.queues


async def test_queues_are_found_before_all_keys_are_looked_through(
    redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others have millions of keys: the default one, those that are expected, and what their exchanges have."""
    project.send("ok", n=1)
    project.send("ok", n=2, queue="emails")
    project.send("ok", n=3, queue="unheard-of")
    with redis.Redis.from_url(redis_url) as client:
        (member,) = client.smembers("_kombu.binding.emails")
        client.sadd("_kombu.binding.emails", member.replace(b"emails", b"letters"))

    async def hang(_: QueueSearch) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(QueueSearch, "_walk", hang)
    source = {"adapter": "celery", "url": redis_url, "queues": {"expected": ["emails"]}, "timeout": "1s"}
    async with watch({**source, "name": "large"}) as watched:
        page = await watched.until(lambda p: p.value("taskq_tasks", queue="letters", state="ready") == 0, "it is found")
    assert page.by("taskq_tasks", "queue", state="ready") == {("celery",): 1, ("emails",): 2, ("letters",): 0}
    assert page.value("taskq_source_problems") == 1, "some may be missing"


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


async def test_tasks_that_are_late_and_tasks_that_wait_for_too_long(
    redis_url: str, make_project: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past their ETA, because nobody starts them; beyond the visibility timeout, so that they are delivered twice."""
    monkeypatch.setattr(held, "PATIENCE", 0.0)
    project = make_project(redis_url, broker_transport_options={"visibility_timeout": 600})
    project.send("slow", 60, queue="late")  # what comes after it cannot start
    project.send("ok", n=3, queue="later", countdown=3600)
    project.send("ok", n=1, queue="later", countdown=300)
    project.send("ok", n=2, queue="late", countdown=2)
    pool = ["-P", "threads", "-c", "1", "--prefetch-multiplier", "100"]
    worker = project.worker(*pool, queues="late,later").ready()
    source = {"adapter": "celery", "url": redis_url, "visibility_timeout": "10m"}
    past_eta, beyond = "taskq_celery_tasks_past_eta", "taskq_celery_eta_beyond_visibility_timeout"
    with redis.Redis.from_url(redis_url) as client:
        async with asyncio.timeout(20):
            while client.hlen("unacked") < 6:
                await asyncio.sleep(0.05)
        worker.kill()
        async with watch(source) as watched:
            page = await watched.until(lambda p: p.value(past_eta, queue="late") == 2, "they are late")
            assert page.by(past_eta, "queue") == {("late",): 2, ("later",): 0}
            assert page.by(beyond, "queue") == {("late",): 0, ("later",): 3}
            assert of(page, "late")["reserved"] == 2
            assert of(page, "later") == {"ready": 0, "scheduled": 4, "retry": 0, "reserved": 0}
            said = {finding.text for finding in watched.runner.findings()}
            assert said == {
                "3 tasks, most of the queue later, wait for an ETA beyond the visibility timeout of 600 s: "
                "they are delivered twice",
                "2 tasks, most of the queue late, are past their ETA, held by workers, and not started",
            }
            tag = client.zrange("unacked_index", 0, 0)[0]
            client.zadd("unacked_index", {tag: time.time() - 700})
            await watched.page()
            assert any("longer than the visibility timeout" in finding.text for finding in watched.runner.findings())


async def test_what_is_acknowledged_while_it_is_read_is_not_reserved(
    redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list of messages and their bodies some go: they are of no queue, and nothing is capped."""
    project.send("ok", n=3)
    with project.app.connection_for_read() as connection:
        channel = connection.default_channel
        got = [channel.basic_get("celery") for _ in range(3)]
        read = Unacked._fetch

        async def fetch(self: Unacked, tags: Any) -> Any:
            while len(got) > 1:
                got.pop().ack()
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
            return await collect(client)

    whole = await snapshot()
    assert whole.queues_complete

    async def hang(_: QueueSearch) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(QueueSearch, "_walk", hang)
    partial = await snapshot()
    assert not partial.queues_complete
    assert [problem.part for problem in partial.problems] == ["queues"]
    assert [(queue.name, queue.tasks) for queue in partial.queues] == [(q.name, q.tasks) for q in whole.queues]


@pytest.mark.parametrize("limit", [(collecting, "QUEUES"), (bindings, "BINDINGS")], ids=["queues", "bindings"])
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
        found = await collect(broker)
    assert not found.queues_complete
    assert [(problem.part, problem.reason) for problem in found.problems] == [("queues", Reason.COST)]
    assert len(found.queues) < 2


async def test_a_queue_with_work_and_nobody_who_reads_it(redis_url: str, project: Any) -> None:
    """Said only while all workers have told what they read."""

    def said(watched: Watch) -> list[str]:
        return [finding.text for finding in watched.runner.findings() if "no worker that reads it" in finding.text]

    project.send("ok", n=3, queue="emails")
    project.declare("empty")
    async with watch({"adapter": "celery", "url": redis_url, "inspect_interval": "200ms"}, follow=True) as watched:
        await watched.following()
        await watched.until(lambda _: said(watched), "nobody reads it")
        assert said(watched) == ["a queue has ready tasks and no worker that reads it: emails with 3 tasks"]
        worker = project.worker("-P", "threads", "-c", "1", queues="emails,other")
        await watched.until(lambda p: p.value("taskq_queue_consumers", queue="other"), "a queue is known by its reader")
        project.send("slow", 0.5, queue="emails")
        await watched.until(lambda p: p.total("taskq_tasks_finished_total") == 4, "all have finished")
        assert not said(watched)
        await asyncio.to_thread(worker.stop)
        project.send("ok", queue="other")
        await watched.until(lambda _: said(watched), "nobody reads it any more")
    async with watch({"adapter": "celery", "url": redis_url, "inspect": False}, follow=True) as watched:
        await watched.following()
        await watched.page()
        assert not said(watched)


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
    url = "gopher://guest:hunter2@localhost//"
    source = Source(name="other", adapter="celery", url=lambda: url, options=CeleryOptions())
    with pytest.raises(AdapterError, match="gopher") as error:
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
