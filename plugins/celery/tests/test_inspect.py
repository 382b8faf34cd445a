"""Remote control of real workers: what they say of themselves, and what their silence means."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis

from taskq_exporter.testing import Page, Server, watch
from taskq_exporter.testing.stores import RedisStore

FINISHED = "taskq_tasks_finished_total"
TOLD = ("taskq_worker_slots", "taskq_worker_prefetch_limit", "taskq_queue_slots", "taskq_queue_consumers")


def by_worker(page: Page, family: str) -> dict[str, float]:
    return {name: value for (name,), value in page.by(family, "worker").items()}


def by_queue(page: Page, family: str) -> dict[str, float]:
    return {name: value for (name,), value in page.by(family, "queue").items()}


def state(page: Page, name: str) -> bool:
    """Whether the one worker is in that state, and in no other."""
    return {s: n for (s,), n in page.by("taskq_workers", "state").items() if n} == {name: 1}


@pytest.mark.parametrize("celery", ["newest", "5.4"])
async def test_workers_of_every_pool(redis_url: str, make_project: Callable[..., Any], celery: str) -> None:
    """Slots, pool, prefetch limit, start and queues, in one round; nothing of it stays in the broker."""
    options = {"global_keyprefix": "app:"}
    settings = {"broker_transport_options": options, "control_exchange": "steering"}
    project = make_project(redis_url, **settings, **({} if celery == "newest" else {"celery": celery}))
    workers = [
        project.worker("-P", "prefork", "-c", "2", name="a@host", queues="celery,mail"),
        project.worker("-P", "threads", "-c", "3", "--prefetch-multiplier", "2", name="b@host", queues="mail"),
        project.worker("-P", "solo", "-c", "1", name="c@host", queues="mail", worker_send_task_events=False),
    ]
    for worker in workers:
        worker.ready()
    project.declare("celery", "nobody")
    with redis.Redis.from_url(redis_url) as client:
        before = sorted(client.keys())
        config = {"adapter": "celery", "url": redis_url, "control_exchange": "steering", **options}
        async with watch({**config, "inspect_interval": 1}, follow=True) as watched:
            await watched.following()
            page = await watched.until(lambda p: len(by_worker(p, "taskq_worker_slots")) == 3, "all have answered")
            assert by_worker(page, "taskq_worker_slots") == {"a@host": 2, "b@host": 3, "c@host": 1}
            assert by_worker(page, "taskq_worker_prefetch_limit") == {"a@host": 8, "b@host": 6, "c@host": 4}
            pools = page.by("taskq_worker_info", "worker", "pool")
            assert sorted(pools) == [("a@host", "prefork"), ("b@host", "threads"), ("c@host", "solo")]
            started = by_worker(page, "taskq_worker_start_timestamp_seconds")
            read_by = {"celery": 1, "mail": 3, "nobody": 0}
            page = await watched.until(lambda p: by_queue(p, "taskq_queue_consumers") == read_by, "who reads them")
            assert by_queue(page, "taskq_queue_slots") == {"celery": 2, "mail": 6, "nobody": 0}
            project.send("ok", n=5, queue="mail")
            page = await watched.until(
                lambda p: p.total("taskq_celery_worker_processed_total") == 5, "heartbeats tell of all five"
            )
            await asyncio.to_thread(workers[0].stop)
            rest = {"celery": 0, "mail": 2, "nobody": 0}
            page = await watched.until(lambda p: by_queue(p, "taskq_queue_consumers") == rest, "one has left")
            assert by_worker(page, "taskq_worker_start_timestamp_seconds").items() <= started.items()
            assert page.value("taskq_source_problems") == 0
            assert all(page.value("taskq_source_capability", family=family, reason="none") == 1 for family in TOLD)
        assert not [k for k in client.scan_iter() if b"reply" in k or b"taskq" in k]
        assert set(before) <= {*client.scan_iter(), b"app:_kombu.binding.steering.pidbox"}


async def test_a_busy_solo_worker_is_up_and_a_killed_one_is_down(redis_url: str, project: Any) -> None:
    """While it runs a task it neither beats nor answers."""
    worker = project.worker("-P", "solo", "--heartbeat-interval", "1").ready()
    config = {"adapter": "celery", "url": redis_url, "heartbeat_timeout": 2, "inspect_interval": 1, "worker_ttl": 5}
    async with watch(config, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: state(p, "idle"), "it is idle")
        project.send("slow", 600, n=2)
        await watched.until(lambda p: state(p, "busy"), "it runs the task", 10)

        def for_long(page: Page) -> bool:
            assert page.value("taskq_worker_up", worker="w1@host") == 1
            assert state(page, "busy"), page.by("taskq_workers", "state")
            return (page.value("taskq_worker_longest_run_seconds", worker="w1@host") or 0) > 7

        page = await watched.until(for_long, "far beyond heartbeat_timeout and worker_ttl")
        assert page.value("taskq_tasks", queue="celery", state="running") == 1, "it reads no other queue"
        assert page.value("taskq_tasks", queue="celery", state="reserved") == 0, "that is what it runs"
        assert page.value("taskq_tasks", queue="celery", state="ready") == 1
        assert page.value("taskq_worker_tasks", worker="w1@host", state="running") == 1
        worker.kill()
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down", 10)
        assert state(page, "offline")
        assert page.value("taskq_tasks", queue="celery", state="running") == 0
        assert page.value("taskq_workers_lost_total") == 1
        await watched.until(lambda p: not p.values("taskq_worker_up"), "it is forgotten")


async def test_a_stopped_worker_is_silent_and_then_down(redis_url: str, project: Any) -> None:
    """It is subscribed, and does not answer; what it answers too late goes nowhere."""
    worker = project.worker("-P", "threads", "-c", "2").ready()
    config = {"adapter": "celery", "url": redis_url, "heartbeat_timeout": 4, "inspect_interval": 1, "worker_ttl": 6}
    async with watch(config, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: state(p, "idle"), "it is idle")
        os.killpg(worker.process.pid, signal.SIGSTOP)
        page = await watched.until(lambda p: state(p, "silent"), "it is silent", 10)
        assert any("listen and do not answer" in f.text for f in watched.runner.findings())
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down", 10)
        await asyncio.sleep(2)
        page = await watched.page()
        assert state(page, "silent"), "it still listens: it is not forgotten"
        assert page.value("taskq_queue_slots", queue="celery") == 0
        os.killpg(worker.process.pid, signal.SIGCONT)
        await watched.until(lambda p: state(p, "idle"), "it is back")
    with redis.Redis.from_url(redis_url) as client:
        assert not [k for k in client.scan_iter() if b"reply" in k]


async def test_leaving_in_the_middle_of_a_round_leaves_nothing(redis_url: str, project: Any) -> None:
    worker = project.worker("-P", "solo").ready()
    with redis.Redis.from_url(redis_url) as client:
        while not client.pubsub_numpat():  # it listens a moment after it is ready
            await asyncio.sleep(0.02)
        os.killpg(worker.process.pid, signal.SIGSTOP)
        async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
            await watched.until(lambda _: any(b"reply" in k for k in client.scan_iter()), "a round goes on")
            reply_list = next(k for k in client.scan_iter() if b"taskq-exporter" in k)
            assert 0 < client.pttl(reply_list) < 60_000
        assert not [k for k in client.scan_iter() if b"reply" in k]
    worker.kill()


async def test_a_worker_that_only_answers(redis_url: str, project: Any) -> None:
    worker = project.worker("-P", "threads", "-c", "2", "--without-heartbeat").ready()
    config = {"adapter": "celery", "url": redis_url, "inspect_interval": 1, "heartbeat_timeout": 3}
    async with watch(config, follow=True) as watched:
        await watched.following()
        page = await watched.until(lambda p: state(p, "idle"), "it is idle")
        assert page.value("taskq_worker_up", worker="w1@host") == 1
        assert not page.values("taskq_worker_last_heartbeat_timestamp_seconds")
        project.send("ok", n=3)
        await watched.until(lambda p: p.total("taskq_celery_worker_processed_total") == 3, "its own count")
        worker.kill()
        await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down", 10)


async def test_without_the_right_the_rest_works(redis_own: Server, make_project: Callable[..., Any]) -> None:
    """`inspect: false` needs no right to write at all; with it on, the page says what is missing."""
    project = make_project(redis_own.url)
    project.worker("-P", "solo").ready()
    config = {"adapter": "celery", "url": redis_own.url}
    async with watch({**config, "inspect": False}, follow=True) as watched:
        lines = watched.runner.adapter.grants(watched.runner.source)
    assert not {"publish", "sadd", "rpush", "del"} & set(lines.replace('"', " ").replace("+", " ").split())
    url = await asyncio.to_thread(RedisStore().grant, redis_own.url, lines)
    for inspect, reason in ((True, "permission"), (False, "option")):
        async with watch({**config, "url": url, "inspect": inspect}, follow=True) as watched:
            await watched.following()
            await watched.until(lambda p: p.total("taskq_worker_up") == 1, "a heartbeat")
            done = (await watched.page()).total(FINISHED)
            project.send("ok", n=3)
            page = await watched.until(lambda p, done=done: p.total(FINISHED) == done + 3, "all have ended")
            for family in TOLD:
                assert page.value("taskq_source_capability", family=family) == 0
                assert page.value("taskq_source_capability", family=family, reason=reason) == 0
                assert not page.values(family)
            assert page.value("taskq_source_problems") == 0
            assert any("inspect: false" in f.advice for f in watched.runner.findings()) == inspect


async def test_events_that_are_lost_are_counted(redis_own: Server, make_project: Callable[..., Any]) -> None:
    """The subscriber is dropped again and again while a worker works: what it missed is what the worker began more."""
    project = make_project(redis_own.url)
    project.worker("-P", "threads", "-c", "2", "-l", "ERROR", "--heartbeat-interval", "1")
    n = 400
    async with watch({"adapter": "celery", "url": redis_own.url}, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: p.total("taskq_worker_up") == 1, "a heartbeat")
        project.send("slow", 0.03, n=n)
        with redis.Redis.from_url(redis_own.url) as client:
            for _ in range(2):
                page = await watched.page()
                so_far = page.total("taskq_tasks_started_total")
                await watched.until(lambda p, so_far=so_far: p.total("taskq_tasks_started_total") > so_far, "events")
                for c in client.client_list(_type="pubsub"):
                    if c["name"].startswith("taskq-exporter"):
                        client.client_kill_filter(_id=c["id"])
        page = await watched.until(lambda p: p.total("taskq_celery_worker_processed_total") == n, "all were begun")
        missed = "taskq_source_events_dropped_total"
        page = await watched.until(
            lambda p: p.total("taskq_tasks_started_total") + p.total(missed, reason="missed") == n, "all accounted for"
        )
        assert page.total(missed, reason="missed") > 0
        await asyncio.sleep(3)
        page = await watched.page()
        assert page.total("taskq_tasks_started_total") + page.total(missed, reason="missed") == n


async def test_what_a_worker_holds(redis_url: str, project: Any) -> None:
    """Running, reserved and scheduled tasks of each worker, from its events."""
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.worker("-P", "threads", "-c", "1", "--prefetch-multiplier", "4")
        project.send("ok", n=2, countdown=600)
        project.send("slow", 60, n=3)
        expected = {("running",): 1, ("reserved",): 2, ("scheduled",): 2}
        await watched.until(lambda p: p.by("taskq_worker_tasks", "state") == expected, f"{expected}")


async def test_the_queue_that_a_worker_reads_is_that_of_its_tasks(
    redis_url: str, make_project: Callable[..., Any]
) -> None:
    """Without task-sent events too."""
    project = make_project(redis_url)
    project.app.conf.task_send_sent_event = False
    project.worker("-P", "solo", name="one@host", queues="mail", task_send_sent_event=False).ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: p.total("taskq_worker_slots") == 1, "it has answered")
        project.send("ok", n=3, queue="mail")
        page = await watched.until(lambda p: p.total(FINISHED) == 3, "all have ended")
        assert page.by(FINISHED, "queue", outcome="succeeded") == {("mail",): 3}


async def test_check_says_who_answers(redis_url: str, project: Any) -> None:
    worker = project.worker("-P", "threads", "-c", "1").ready()
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        source, adapter = watched.runner.source, watched.runner.adapter
        async with adapter.connect(source) as client:
            findings = await adapter.diagnose(source, client)
            assert any(f.text == "1 workers answer remote control" for f in findings)
            os.killpg(worker.process.pid, signal.SIGSTOP)
            findings = await adapter.diagnose(source, client)
            assert any(f.text == "1 workers listen and do not answer" for f in findings)


async def test_workers_of_one_name_and_answers_in_yaml(redis_url: str, make_project: Callable[..., Any]) -> None:
    """Two of one name are not one that is silent; and what is no JSON was an answer all the same, though not read."""
    project = make_project(redis_url)
    for _ in range(2):
        project.worker("-P", "threads", "-c", "1", name="same@host").ready()
    async with watch({"adapter": "celery", "url": redis_url, "inspect_interval": 1}, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: p.total("taskq_worker_slots") == 1, "they have answered")
        page = await watched.page()
        assert page.value("taskq_workers", state="silent") == 0
        assert any("same@host" in f.text for f in watched.runner.findings())
        other = {"task_serializer": "yaml", "accept_content": ["json", "yaml"]}
        project.worker("-P", "threads", "-c", "1", name="other@host", **other).ready()
        await watched.until(lambda p: p.value("taskq_worker_up", worker="other@host") == 1, "a heartbeat")
        await watched.until(lambda _: any("JSON" in f.text for f in watched.runner.findings()), "it has answered")
        page = await watched.page()
        assert page.value("taskq_workers", state="silent") == 0
        assert page.value("taskq_worker_slots", worker="other@host") is None
