"""Real schedulers: celery beat, and redbeat with its keys in Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry
from taskq_exporter_celery.adapter import connect, diagnose, grants
from taskq_exporter_celery.on_redis.messages import parse_held
from taskq_exporter_celery.on_redis.redbeat import OVERDUE, Redbeat, _last_run

from taskq_exporter.testing import Page, Watch, watch
from taskq_exporter.testing.stores import store_of

pytestmark = pytest.mark.newest

UP = "taskq_scheduler_up"
LAST_BEAT = "taskq_scheduler_last_beat_timestamp_seconds"
NEXT_RUN = "taskq_schedule_next_run_timestamp_seconds"
LAST_RUN = "taskq_schedule_last_run_timestamp_seconds"
LOCK = "taskq_celery_redbeat_lock_held"
OK = "celery_project.ok"
TICK = {"tick": {"task": OK, "schedule": 1.0}}
NIGHTLY = {"nightly": {"task": OK, "schedule": 86400.0}}
REDBEAT = ("-S", "redbeat.RedBeatScheduler")


def beat(page: Page, name: str = "beat") -> tuple[float | None, float | None]:
    """Whether it is up, and its last beat."""
    return page.value(UP, scheduler=name), page.value(LAST_BEAT, scheduler=name)


# --- celery beat


async def test_a_configured_beat_is_heard_by_its_tasks_and_stays_dead_after_a_restart(
    redis_url: str, project: Any, tmp_path: Path
) -> None:
    scheduler = {"name": "beat", "max_silence": 3, "tasks": [OK]}
    config = {"adapter": "celery", "url": redis_url, "schedulers": [scheduler], "inspect": False}
    async with watch(config, follow=True, state_dir=tmp_path) as watched:
        await watched.following()
        assert beat(await watched.page()) == (None, 0), "on the first page, and never heard of"
        process = project.beat(TICK)
        page = await watched.until(lambda p: p.value(UP, scheduler="beat") == 1, "it sends")
        assert 0 <= time.time() - page.value(LAST_BEAT, scheduler="beat") < 30
        await asyncio.to_thread(process.kill)
        page = await watched.until(lambda p: p.value(UP, scheduler="beat") == 0, "it is silent")
        dead = beat(page)
        assert any("beat is down" in f.text for f in watched.runner.findings())
    async with watch(config, follow=True, state_dir=tmp_path) as watched:
        await watched.following()
        assert beat(await watched.page()) == dead
        project.beat(TICK)
        await watched.until(lambda p: p.value(UP, scheduler="beat") == 1, "it sends again")


@pytest.mark.parametrize("broker", ["redis_url", "rabbitmq_url"])
async def test_a_beat_that_answers_pings_is_up_while_it_sends_nothing(
    broker: str, request: pytest.FixtureRequest, make_project: Callable[..., Any]
) -> None:
    """Its schedule is nightly; it is down once it answers no more."""
    url = request.getfixturevalue(broker)
    process = make_project(url).beat(NIGHTLY, beat_enable_remote_control=True).ready()
    config = {"adapter": "celery", "url": url, "inspect_interval": 1}
    async with watch(config, follow=True) as watched:
        page = await watched.until(lambda p: p.value(UP, scheduler="beat") == 1, "it answers")
        assert page.value("taskq_tasks_enqueued_total") is None
        assert not page.values("taskq_worker_up"), "it is no worker"
        await asyncio.to_thread(process.kill)
        await watched.until(lambda p: p.value(UP, scheduler="beat") == 0, "it answers no more")


async def test_check_asks_a_configured_beat(redis_url: str, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq_exporter_celery.checks.LISTEN", 0.1)
    config = {"adapter": "celery", "url": redis_url, "schedulers": [{"name": "beat"}]}

    async def findings(watched: Watch) -> list[str]:
        source = watched.runner.source
        async with connect(source) as client:
            return [f"{f.level}: {f.text}" for f in await diagnose(source, client)]

    async with watch(config) as watched:
        assert "note: no beat answers ping" in await findings(watched)
        project.beat(NIGHTLY, beat_enable_remote_control=True).ready()
        until = time.monotonic() + 30
        while "ok: beat answers ping" not in await findings(watched):
            assert time.monotonic() < until


@pytest.mark.parametrize("held", [True, False])
async def test_a_beat_is_recognised_by_its_messages(redis_url: str, project: Any, held: bool) -> None:
    """One is seen in its queue, or a worker holds it; from then on all that its producer sends are its beats."""
    if held:
        project.worker("-P", "threads", "-c", "1", "--prefetch-multiplier", "4").ready()
    async with watch(
        {"adapter": "celery", "url": redis_url, "inspect": False, "peek": not held}, follow=True
    ) as watched:
        await watched.following()
        project.send("slow", 600, queue="celery" if held else "other")  # the worker is busy, and keeps what comes
        assert beat(await watched.page()) == (None, None)
        process = project.beat(TICK)
        page = await watched.until(lambda p: p.value(LAST_BEAT, scheduler="beat"), "it is recognised")
        first = page.value(LAST_BEAT, scheduler="beat")
        await watched.until(lambda p: p.value(LAST_BEAT, scheduler="beat") > first, "it sends more")
        assert page.value(UP, scheduler="beat") is None, "it may be silent for as long as its schedule is"
        project.send("ok")
        await asyncio.to_thread(process.kill)
        last = (await watched.page()).value(LAST_BEAT, scheduler="beat")
        project.send("ok")
        await watched.until(lambda p: p.total("taskq_tasks_enqueued_total", task=OK) >= 4, "another producer sends")
        assert (await watched.page()).value(LAST_BEAT, scheduler="beat") == last


def test_the_header_of_a_held_message() -> None:
    def held(**headers: Any) -> str:
        message = {"body": "W10=", "headers": {"id": "1", "origin": "gen7@host", **headers}, "properties": {}}
        return parse_held(json.dumps([message, "", "q"]).encode(), "sent").beat

    assert held(celery_beat_task=True) == "gen7@host"
    assert held() == held(celery_beat_task="yes") == held(origin=None, celery_beat_task=True) == ""


# --- redbeat


@asynccontextmanager
async def reading(url: str, **options: Any) -> AsyncIterator[Redbeat]:
    """The reader of a source, without waiting for its rounds."""
    config = {"adapter": "celery", "url": url, **options}
    async with watch(config) as watched, connect(watched.runner.source) as broker:
        await broker.read_in_background()  # type: ignore[attr-defined]
        yield broker.redbeat  # type: ignore[attr-defined]


async def told(it: Redbeat) -> Any:
    return (await it.told(30, None)).schedulers


async def test_redbeat(redis_url: str, make_project: Callable[..., Any]) -> None:
    """Its schedule, its last beat and its lock; down when an entry is overdue."""
    project = make_project(redis_url, redbeat_redis_url=redis_url)
    tick = {"tick": {"task": "celery_project.nameless", "schedule": 1.0, "args": ["secret"]}}
    process = project.beat(tick | NIGHTLY, *REDBEAT)
    config = {"adapter": "celery", "url": redis_url, "inspect": False}
    with redis.Redis.from_url(redis_url) as client:
        until = time.monotonic() + 30
        while b"total_run_count" not in (client.hget("redbeat:tick", "meta") or b""):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        async with watch(config, follow=True) as watched:
            page = await watched.page()
            up, last = beat(page, "redbeat")
            assert up == 1
            assert last == page.value(LAST_RUN, scheduler="redbeat", entry="tick")
            assert abs(time.time() - last) < 60
            assert page.value("taskq_scheduler_entries", scheduler="redbeat") == 3
            assert set(page.by(NEXT_RUN, "entry")) == {("tick",), ("nightly",), ("celery.backend_cleanup",)}
            assert set(page.by(LAST_RUN, "entry")) == {("tick",)}, "the others never ran"
            assert page.value(NEXT_RUN, entry="nightly") == client.zscore("redbeat::schedule", "redbeat:nightly")
            assert page.value(LOCK) == 1
            assert page.value("taskq_source_problems") == 0
            assert "secret" not in page.text
        await asyncio.to_thread(process.kill)
        client.delete("redbeat::lock")
        client.zadd("redbeat::schedule", {"redbeat:tick": time.time() - OVERDUE - 1})
        async with watch(config, follow=True) as watched:
            page = await watched.page()
            assert page.value(UP, scheduler="redbeat") == 0
            assert page.value(LOCK) is None, "it was not seen since we started: it may have another name"
            assert any(f.text.startswith("redbeat's entry tick is overdue by 12") for f in watched.runner.findings())


async def test_what_is_late_on_purpose_is_not_overdue(redis_url: str, make_project: Callable[..., Any]) -> None:
    """Entries that are disabled, or that are never due again, stay in redbeat's schedule."""
    project = make_project(redis_url, redbeat_redis_url=redis_url)

    def save(name: str, due: float, **more: Any) -> None:
        RedBeatSchedulerEntry(name, OK, schedule(60), args=["secret"], app=project.app, **more).save()
        client.zadd("redbeat::schedule", {f"redbeat:{name}": due})

    with redis.Redis.from_url(redis_url) as client:
        now = time.time()
        save("off", now - 9000, enabled=False)
        save("over", -1)
        save("next", now + 60)
        save("soon", now - OVERDUE + 60)
        async with reading(redis_url) as it:
            await it.refresh()
            (stats,) = await told(it)
            assert (stats.up, stats.entry_count, stats.last_beat) == (True, 4, None)
            assert {e.name for e in stats.entries} == {"off", "next", "soon"}
            save("next", now - OVERDUE - 1)
            await it.refresh()
            assert [s.up for s in await told(it)] == [False]
            save("next", now + 60)
            save("off", now - 8000)
            await it.refresh()
            assert [s.up for s in await told(it)] == [False], "it was enabled again"
            client.delete("redbeat:off", "redbeat::schedule")
            await it.refresh()
            assert not await told(it)


async def test_redbeats_lock_that_is_gone_is_told(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {"redbeat:a": time.time() + 60})
        async with reading(redis_url) as it:
            await it.refresh()
            assert it.findings == []
            client.set("redbeat::lock", "x")
            await it.refresh()
            assert it.findings == []
            client.delete("redbeat::lock")
            await it.refresh()
            (finding,) = it.findings
            assert "lock" in finding.text
            assert [s.up for s in await told(it)] == [True], "nothing is overdue"


async def test_redbeats_keys_that_vanish(redis_url: str, tmp_path: Path) -> None:
    """Somebody emptied the database: who was seen is down, also after a restart."""
    config = {"adapter": "celery", "url": redis_url, "inspect": False}
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {"redbeat:a": time.time() + 60})
        async with watch(config, follow=True, state_dir=tmp_path) as watched:
            await watched.following()
            await watched.until(lambda p: p.value(UP, scheduler="redbeat") == 1, "it is there")
            await watched.until(lambda _: watched.runner.ledger.cursor, "the checkpoint holds it")
        client.flushdb()
        async with watch(config, follow=True, state_dir=tmp_path) as watched:
            await watched.following()
            await watched.until(lambda p: p.value(UP, scheduler="redbeat") == 0, "it is gone")


async def test_where_there_is_no_redbeat(redis_url: str) -> None:
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        assert "redbeat" not in (await watched.page()).text
    async with watch({"adapter": "celery", "url": redis_url, "redbeat": True}) as watched:
        page = await watched.page()
        assert page.value("taskq_scheduler_entries", scheduler="redbeat") == 0
        assert page.value(UP, scheduler="redbeat") is None
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {"redbeat:a": 5})
    async with watch({"adapter": "celery", "url": redis_url, "redbeat": False}) as watched:
        assert "redbeat" not in (await watched.page()).text
    async with watch({"adapter": "celery", "url": redis_url, "redbeat_key_prefix": "other:"}) as watched:
        assert "redbeat" not in (await watched.page()).text


async def test_without_the_right_to_read_redbeats_keys(redis_url: str) -> None:
    """Rights that were given before redbeat was known of are enough for the rest."""
    url = redis_url.replace("redis://", "redis://someone:secret@").replace(":@", ":")
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser(
            "someone",
            enabled=True,
            passwords=["+secret"],
            keys=["celery*", "_kombu*", "unacked*"],
            categories=["+@all"],
        )
        client.lpush("celery", "x")
    async with watch({"adapter": "celery", "url": url, "queues": {"expected": ["celery"]}}) as watched:
        page = await watched.page()
        assert page.value("taskq_tasks", queue="celery", state="ready") == 1
        assert page.value("taskq_source_problems") == 0
        assert page.value("taskq_source_capability", family=UP, reason="permission") == 0
    async with watch({"adapter": "celery", "url": url, "redbeat": True}) as watched:
        await watched.page()
        assert watched.runner.complaints() == [
            "cannot read redbeat: permission: missing right: the key of ZCARD redbeat::schedule "
            "(`taskq-exporter grants` prints what the user needs)"
        ]


async def test_the_rights_that_are_granted_are_enough(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {"redbeat:a": 5})
        client.hset("redbeat:a", "definition", '{"enabled": true}')
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        url = store_of(redis_url).grant(redis_url, grants(watched.runner.source))
    async with watch({"adapter": "celery", "url": url}) as watched:
        page = await watched.page()
        assert watched.runner.complaints() == []
        assert page.value(UP, scheduler="redbeat") == 0


async def test_many_entries_are_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are due first are read; the page shows as many as the source's limit."""
    monkeypatch.setattr("taskq_exporter_celery.on_redis.redbeat.LIMIT", 300)
    monkeypatch.setattr("taskq_exporter_celery.on_redis.redbeat._SLICE", 7)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {f"redbeat:{i:04}": time.time() + i for i in range(400)})
        async with watch({"adapter": "celery", "url": redis_url}) as watched:
            page = await watched.page()
            assert page.value("taskq_scheduler_entries", scheduler="redbeat") == 400
            assert len(page.values(NEXT_RUN)) == 200
            assert page.value("taskq_source_label_overflow_total", label="entry") > 0


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"hour": 7, "timezone": "UTC"}, 1795244400.25),
        ({"hour": 7, "timezone": 7200.0}, 1795237200.25),
        ({"hour": 7, "timezone": "Europe/Berlin"}, 1795240800.25),
        ({"hour": 7, "timezone": "Europe"}, None),
        ({"hour": 7, "timezone": "../etc/passwd"}, None),
        ({"hour": 77}, None),
        ({"hour": 7, "timezone": 1e300}, None),
        ({"hour": "7"}, None),
    ],
)
def test_when_an_entry_last_ran(meta: dict[str, Any], expected: float | None) -> None:
    at = {"year": 2026, "month": 11, "day": 21, "minute": 0, "second": 0, "microsecond": 250000, **meta}
    assert _last_run(json.dumps({"last_run_at": at, "total_run_count": 1}).encode()) == expected
    assert _last_run(json.dumps({"last_run_at": at}).encode()) is None, "it never ran: that is when it was made"


@pytest.mark.parametrize("meta", [None, b"", b"7", b"{}", b"\xff", b'{"total_run_count": 1, "last_run_at": null}'])
def test_meta_of_something_else(meta: bytes | None) -> None:
    assert _last_run(meta) is None
