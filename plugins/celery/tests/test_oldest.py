"""How old the oldest ready task is: from whatever tells it, and from our own clock where nothing does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis
from taskq_exporter_celery.on_redis import broker, tails
from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.on_redis.messages import parse_ready
from taskq_exporter_celery.on_redis.tails import Tails
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_redis import connect

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.testing import Page, Watch, watch

pytestmark = pytest.mark.newest

HEADER = "sentry-task-enqueued-time"
MakeProject = Callable[..., Any]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "LOOK_AT_TAILS_EVERY", 0.1)
    monkeypatch.setattr(broker, "READ_UNACKED_EVERY", 0.1)


@pytest.fixture
def silent(redis_url: str, make_project: MakeProject) -> Any:
    """A producer that sends no task-sent events."""
    project = make_project(redis_url)
    project.app.conf.task_send_sent_event = False
    project.settings["task_send_sent_event"] = False
    return project


def age(page: Page, queue: str = "celery") -> float | None:
    return page.value("taskq_oldest_task_age_seconds", queue=queue, state="ready")


def is_bound(page: Page, queue: str = "celery") -> float | None:
    return page.value("taskq_celery_oldest_age_is_lower_bound", queue=queue)


async def aged(watched: Watch, least: float, most: float, queue: str = "celery") -> Page:
    """The first page with an age of at least that; it must not be more than so much."""
    page = await watched.until(lambda p: (age(p, queue) or 0.0) >= least, f"{queue} is {least:g} s old")
    assert (age(page, queue) or 0.0) < most
    return page


async def test_an_empty_queue_has_no_age(redis_url: str, project: Any) -> None:
    project.declare("empty")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
    assert (age(page, "empty"), is_bound(page, "empty")) == (0, 0)


async def test_what_was_not_looked_at_yet_has_no_age(
    redis_url: str, silent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came since the queue was seen empty: 0 would be a guess."""
    monkeypatch.setattr(broker, "LOOK_AT_TAILS_EVERY", 3600)
    silent.declare("new")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        await watched.until(lambda p: age(p, "new") == 0, "the empty queue was looked at")
        silent.send("ok", queue="new")
        page = await watched.page()
    assert page.value("taskq_tasks", queue="new", state="ready") == 1
    assert (age(page, "new"), is_bound(page, "new")) == (None, None)


@pytest.mark.parametrize("form", ["number", "text", "iso"])
async def test_a_header_tells_since_when(redis_url: str, silent: Any, form: str) -> None:
    then = time.time() - 100
    headers = {"number": then, "text": f"{then:.9f}", "iso": datetime.fromtimestamp(then, UTC).isoformat()}
    silent.send("ok", headers={HEADER: headers[form]})
    silent.send("ok", headers={HEADER: time.time()})
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
        assert 100 <= (age(page) or 0) < 130
        assert is_bound(page) == 0
        await aged(watched, (age(page) or 0) + 0.3, 130)


async def test_the_header_has_any_name(redis_url: str, silent: Any) -> None:
    silent.send("ok", headers={"sent_at": time.time() - 100})
    async with watch({"adapter": "celery", "url": redis_url, "enqueued_header": "sent_at"}) as watched:
        assert is_bound(await aged(watched, 100, 130)) == 0


async def test_task_sent_tells_since_when(redis_url: str, project: Any) -> None:
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=2)
        page = await watched.until(lambda p: (age(p) or 0) > 0.5 and is_bound(p) == 0, "the event has told")
        assert (age(page) or 0) < 30


async def test_without_either_it_is_a_lower_bound(redis_url: str, silent: Any) -> None:
    silent.send("ok")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        assert is_bound(await aged(watched, 0.5, 30)) == 1


async def test_the_oldest_of_all_priorities_counts(redis_url: str, silent: Any) -> None:
    silent.send("ok", priority=0, headers={HEADER: time.time() - 50})
    silent.send("ok", priority=9, headers={HEADER: time.time() - 100})
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        assert is_bound(await aged(watched, 100, 130)) == 0


async def test_an_age_that_is_known_is_no_certainty_beside_one_that_is_not(redis_url: str, silent: Any) -> None:
    silent.send("ok", priority=0, headers={HEADER: time.time() - 100})
    silent.send("ok", priority=9)
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        assert is_bound(await aged(watched, 100, 130)) == 1


async def test_what_waits_for_its_eta_is_not_late(redis_url: str, silent: Any) -> None:
    """Though it is in the list: no worker has fetched it yet. What is behind it may be late."""
    silent.send("ok", countdown=1000, headers={HEADER: time.time() - 100}, queue="later")
    silent.send("ok", eta=datetime.now(UTC) - timedelta(seconds=50), headers={HEADER: time.time() - 100}, queue="due")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        page = await watched.page()
        assert (age(page, "later"), is_bound(page, "later")) == (0, 0)
        silent.send("ok", queue="later")
        page = await watched.until(lambda p: age(p, "later") is None, "what is behind it is not known")
        assert is_bound(page, "later") is None
        assert 50 <= (age(page, "due") or 0) < 80
        assert is_bound(page, "due") == 0


async def test_it_ends_with_the_message(redis_url: str, silent: Any) -> None:
    silent.send("ok", headers={HEADER: time.time() - 100})
    silent.send("ok", headers={HEADER: time.time() - 10})
    with redis.Redis.from_url(redis_url) as client:
        async with watch({"adapter": "celery", "url": redis_url}) as watched:
            await aged(watched, 100, 130)
            client.rpop("celery")
            await watched.until(lambda p: (age(p) or 0) < 40, "the next one is looked at")
            client.rpop("celery")
            assert age(await watched.page()) == 0


async def test_bodies_are_left_alone_without_the_option(redis_url: str, silent: Any) -> None:
    silent.send("ok")
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        async with watch({"adapter": "celery", "url": redis_url, "peek": False}) as watched:
            page = await watched.page()
        assert "cmdstat_lindex" not in client.info("commandstats")
    assert age(page) is None
    capability = {"family": "taskq_oldest_task_age_seconds", "state": "ready"}
    assert page.value("taskq_source_capability", **capability, reason="option") == 0


async def test_without_the_right_all_else_is_there(redis_url: str, silent: Any) -> None:
    silent.send("ok")
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "peeker", "on", ">secret", "~*", "&*", "+@all", "-lindex")
    url = redis_url.replace("redis://", "redis://peeker:secret@")
    async with watch({"adapter": "celery", "url": url}) as watched:
        page = await watched.page()
        assert any("lindex" in finding.text for finding in watched.runner.findings())
    assert page.value("taskq_tasks", queue="celery", state="ready") == 1
    assert page.value("taskq_source_problems") == 0
    assert age(page) is None
    capability = {"family": "taskq_oldest_task_age_seconds", "state": "ready"}
    assert page.value("taskq_source_capability", **capability, reason="permission") == 0


async def test_messages_teach_the_queue(redis_url: str, silent: Any) -> None:
    """Of a task without a task-sent: that in which its message was seen, whatever others of its name lie in."""
    silent.declare("emails", "other")
    async with watch({"adapter": "celery", "url": redis_url, "inspect": False}, follow=True) as watched:
        await watched.following()
        silent.send("slow_late", 3.0, queue="emails")
        silent.send("ok", queue="emails")
        silent.send("ok", queue="other")
        for queue in ("emails", "other"):
            await watched.until(partial(age, queue=queue), f"{queue} was looked at")
        silent.worker("-P", "solo", queues="emails,other")  # which sends its events in order
        finished = "taskq_tasks_finished_total"
        page = await watched.until(lambda p: p.total(finished) == 3, "all have finished")
        counts = page.by(finished, "queue", "task", outcome="succeeded")
        ok, late = "celery_project.ok", "celery_project.slow_late"
        assert counts == {("emails", late): 1, ("emails", ok): 1, ("other", ok): 1}


async def test_a_held_message_tells_its_own_queue(redis_url: str, silent: Any) -> None:
    """Also where those of its name lie in several, and though a message of that name told of another."""
    silent.declare("emails", "other")
    async with watch({"adapter": "celery", "url": redis_url, "inspect": False}, follow=True) as watched:
        await watched.following()
        silent.send("ok", queue="other")
        await watched.until(partial(age, queue="other"), "its name is known by this one")
        worker = silent.worker("-c", "1", "--prefetch-multiplier", "10", queues="emails,other")
        await asyncio.to_thread(worker.ready)
        silent.send("slow", 4.0, queue="emails")
        silent.send("ok", n=2, queue="emails")
        silent.send("ok", queue="other")
        finished = "taskq_tasks_finished_total"
        page = await watched.until(lambda p: p.total(finished) == 5, "all have finished")
        worker.kill()
    counts = page.by(finished, "queue", task="celery_project.ok", outcome="succeeded")
    assert counts["emails",] == 2
    assert counts["other",] == 2


# --- what it costs the server


def message(i: int, size: int = 0) -> bytes:
    delivery = {"exchange": "", "routing_key": "celery"}
    properties = {"delivery_info": delivery, "delivery_tag": str(i)}
    return json.dumps({"body": "x" * size, "headers": {"id": str(i), "task": "t"}, "properties": properties}).encode()


async def test_large_messages_are_looked_at_rarely_and_a_round_is_bounded(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "ROUND_BYTES", 1_000_000)
    source = Source(name="test", adapter="celery", url=lambda: redis_url)
    queues = [f"q{i}" for i in range(100)]
    with redis.Redis.from_url(redis_url) as client:
        for i, queue in enumerate(queues):
            client.lpush(queue, message(i, 100_000))
        async with connect(source) as connection:
            looked = Tails(connection, Layout(CeleryOptions(), 0), HEADER)
            found: list[str] = []
            while len(found) < len(queues):
                new = set(await looked.refresh(queues)) - set(found)
                assert 0 < len(new) <= 15  # where the last round ended, the next goes on
                found += new
            assert sorted(found) == sorted(queues)
            client.config_resetstat()
            await looked.refresh(queues)
            # All but the large ones, which rest: the three other steps of each queue.
            assert client.info("commandstats")["cmdstat_lindex"]["calls"] == 3 * 100


async def test_no_list_and_no_message_are_no_age(redis_url: str) -> None:
    """They are the problem of what reads the length, or have none."""
    source = Source(name="test", adapter="celery", url=lambda: redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.set("text", "1")
        client.lpush("odd", "not a message", b"\xff", "[]", "{}")
        async with connect(source) as connection:
            looked = Tails(connection, Layout(CeleryOptions(), 0), HEADER)
            assert await looked.refresh(["text", "odd"]) == {}
            assert looked.oldest("odd", [4, 0, 0, 0], await connection.time(), lambda _: None) is None
            assert looked.oldest("never-looked-at", [4, 0, 0, 0], await connection.time(), lambda _: None) is None
            client.execute_command("ACL", "SETUSER", "default", "-lindex")
            try:
                with pytest.raises(AdapterError) as error:
                    await looked.refresh(["odd"])
            finally:
                client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert error.value.reason is Reason.PERMISSION


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"1", b'{"body": "', b'{"properties": {}}', b'{"headers": 1, "properties": {"delivery_info": {}}}'],
)
def test_what_is_no_message(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any text
        parse_ready(value, HEADER)


@pytest.mark.parametrize("header", [None, "soon", -1, 1e300, {}, [], True and "nan"])
def test_a_header_that_is_no_time(header: Any) -> None:
    value = json.loads(message(1))
    value["headers"][HEADER] = header
    assert parse_ready(json.dumps(value).encode(), HEADER).enqueued is None
