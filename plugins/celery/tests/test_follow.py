"""What workers do, counted from their events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from taskq_exporter.testing import Page, Server, watch

FINISHED = "taskq_tasks_finished_total"


def outcomes(page: Page) -> dict[tuple[str, str], float]:
    """(task, outcome) and how many, without zeros."""
    found = page.by(FINISHED, "task", "outcome", queue="celery")
    assert page.total(FINISHED) == sum(found.values()), "counted under another queue"
    return {(task.removeprefix("celery_project."), outcome): n for (task, outcome), n in found.items() if n}


def by_task(page: Page, family: str) -> dict[str, float]:
    return {task.removeprefix("celery_project."): n for (task,), n in page.by(family, "task").items() if n}


async def test_each_end_of_a_task(redis_url: str, project: Any) -> None:
    """Every outcome once, though some send two events at the end, and some none."""
    worker = project.worker("-c", "4")
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        worker.ready()
        first = project.send("fail")[0]
        await watched.until(lambda p: p.total(FINISHED, outcome="failed") == 1, "the first failure")
        terminated = project.send("slow", 60)[0]
        await watched.until(lambda p: p.value("taskq_tasks", queue="celery", state="running") == 1, "one runs")
        project.app.control.revoke(terminated, terminate=True)
        revoked = project.send("slow", 60, countdown=1)[0]
        project.app.control.revoke(revoked)
        for task in ("hard", "soft", "retry", "reject", "reject_early", "reject_once", "ignore", "odd", "nameless"):
            project.send(task)
        project.send("ok", n=3)
        project.send("ok", countdown=1)
        project.send("ok", expires=datetime.now(UTC) - timedelta(seconds=1))
        project.send("killed")
        page = await watched.until(lambda p: p.total(FINISHED) >= 16, "all have ended")
        for _ in range(4):  # what is counted twice would come now; a heartbeat tells that `ignore` has ended
            await asyncio.sleep(0.5)
            page = await watched.page()
        page = await watched.until(lambda p: p.total("taskq_tasks", state="running") == 0, "nothing runs", 10)

    assert first
    assert outcomes(page) == {
        ("fail", "failed"): 1,
        ("slow", "cancelled"): 2,
        ("hard", "timed_out"): 1,
        ("soft", "timed_out"): 1,
        ("retry", "succeeded"): 1,
        ("reject", "rejected"): 1,
        ("reject_early", "rejected"): 1,
        ("reject_once", "succeeded"): 1,
        ("odd", "failed"): 1,
        ("nameless", "failed"): 1,  # not registered
        ("ok", "succeeded"): 4,
        ("ok", "expired"): 1,
        ("killed", "failed"): 1,
    }
    started = {"fail": 1, "slow": 1, "hard": 1, "soft": 1, "retry": 3, "reject": 1, "reject_early": 1} | {
        "reject_once": 2,
        "ignore": 1,
        "odd": 1,
        "ok": 4,
        "killed": 1,
    }
    assert by_task(page, "taskq_tasks_started_total") == started
    assert by_task(page, "taskq_task_run_duration_seconds_count") == {t: n for t, n in started.items() if t != "ignore"}
    assert by_task(page, "taskq_tasks_retried_total") == {"retry": 2, "reject_once": 1}
    assert by_task(page, "taskq_tasks_enqueued_total") == {
        **dict.fromkeys(started, 1),
        "retry": 3,
        "slow": 2,
        "ok": 5,
        "nameless": 1,
    }
    assert by_task(page, "taskq_tasks_redelivered_total") == {}
    raised = {
        (t.removeprefix("celery_project."), e): n
        for (t, e), n in page.by("taskq_task_exceptions_total", "task", "exception").items()
    }
    assert raised == {
        ("fail", "ValueError"): 1,
        ("hard", "TimeLimitExceeded"): 1,
        ("soft", "SoftTimeLimitExceeded"): 1,
        ("retry", "KeyError"): 2,
        ("odd", "OddError"): 1,
        ("nameless", "NotRegistered"): 1,
        ("killed", "WorkerLostError"): 1,
    }
    run = "taskq_task_run_duration_seconds_sum"
    for task, outcome in (("hard", "timed_out"), ("soft", "timed_out")):
        seconds = page.value(run, task=f"celery_project.{task}", outcome=outcome)
        assert seconds is not None
        assert 0.9 <= seconds < 2.5  # the limit's timer of 1 s runs before task-started is sent
    waits = page.by("taskq_task_wait_duration_seconds_count", "queue")
    assert waits == {("celery",): sum(started.values()) - 1}  # once for each message, also for one that came twice
    assert page.total("taskq_source_events_dropped_total") == 0
    assert page.value("taskq_source_problems") == 0


async def test_the_first_failure_is_an_increase(redis_url: str, project: Any) -> None:
    """The counter of failures is there, at 0, before the first one."""
    worker = project.worker("-P", "solo").ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("retry", 60.0)
        page = await watched.until(lambda p: p.total("taskq_tasks_retried_total") == 1, "the first try")
        assert page.value(FINISHED, task="celery_project.retry", outcome="failed") == 0
        assert page.value(FINISHED, task="celery_project.retry", outcome="succeeded") == 0
    worker.kill()


async def test_ten_thousand_tasks(redis_url: str, project: Any) -> None:
    """Exact totals of four worker processes at full speed, whatever the order of events."""
    n = 10_000
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        await asyncio.to_thread(project.send, "ok", n=n - 100)
        await asyncio.to_thread(project.send, "fail", n=100)
        begun = time.perf_counter()
        project.worker("-c", "4", "-l", "ERROR", "--prefetch-multiplier", "64")
        page = await watched.until(lambda p: p.total(FINISHED) >= n, "all have ended", 120)
        print(f"{n} tasks in {time.perf_counter() - begun:.1f} s")
        await asyncio.sleep(0.5)
        page = await watched.page()
    assert outcomes(page) == {("ok", "succeeded"): n - 100, ("fail", "failed"): 100}
    for family in ("enqueued", "received", "started"):
        assert by_task(page, f"taskq_tasks_{family}_total") == {"ok": n - 100, "fail": 100}
    assert by_task(page, "taskq_task_run_duration_seconds_count") == {"ok": n - 100, "fail": 100}
    assert page.total("taskq_task_wait_duration_seconds_count") == n
    assert page.by("taskq_tasks", "state", queue="celery") == {
        (state,): 0 for state in ("ready", "scheduled", "retry", "reserved", "running")
    }
    assert page.total("taskq_source_events_dropped_total") == 0


@pytest.mark.parametrize("pool", ["threads", "solo", "prefork"])
async def test_pools(redis_url: str, project: Any, pool: str) -> None:
    project.worker("-P", pool, "-c", "1").ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=5)
        project.send("slow_late", 0.3)
        page = await watched.until(lambda p: p.total(FINISHED) == 6, "all have ended")
    assert outcomes(page) == {("ok", "succeeded"): 5, ("slow_late", "succeeded"): 1}


async def test_a_task_that_acknowledges_late_is_running_and_not_reserved(redis_url: str, project: Any) -> None:
    project.worker("-P", "threads", "-c", "1", "--prefetch-multiplier", "4").ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("slow_late", 60, n=6)
        expected = {("ready",): 2, ("scheduled",): 0, ("retry",): 0, ("reserved",): 3, ("running",): 1}
        page = await watched.until(lambda p: p.by("taskq_tasks", "state", queue="celery") == expected, f"{expected}")
        age = page.value("taskq_oldest_task_age_seconds", queue="celery", state="running")
        longest = page.value("taskq_task_longest_run_seconds", queue="celery", task="celery_project.slow_late")
        assert age is not None
        assert age == longest
        assert 0 < age < 30


async def test_without_task_sent_no_queue_is_better_than_a_wrong_one(
    redis_url: str, make_project: Callable[..., Any]
) -> None:
    project = make_project(redis_url)
    project.app.conf.task_send_sent_event = False
    project.worker("-P", "solo", queues="celery,other", task_send_sent_event=False).ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        page = await watched.until(lambda p: p.total(FINISHED) == 3, "all have ended")
        assert page.by(FINISHED, "queue", outcome="succeeded") == {("",): 3}
        assert not page.values("taskq_tasks_enqueued_total"), "not known is not 0"
        assert page.value("taskq_source_capability", family="taskq_tasks_enqueued_total", reason="option") == 0
        findings = await diagnose(watched)
        assert any("task_send_sent_event" in f.advice for f in findings)


async def test_without_task_events_the_page_says_so(redis_url: str, project: Any) -> None:
    project.worker("-P", "solo", worker_send_task_events=False).ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        await watched.until(lambda p: p.total("taskq_worker_up") == 1, "a heartbeat")
        project.send("ok", n=3)
        family = {"family": "taskq_tasks_finished_total"}
        page = await watched.until(
            lambda p: p.value("taskq_source_capability", **family, reason="option") == 0, "it is noticed", 10
        )
        assert not page.values("taskq_tasks_received_total")
        assert page.value("taskq_celery_workers_without_task_events") == 1
        assert not page.total("taskq_source_events_dropped_total", reason="missed"), "they were never sent"
        for findings in (watched.runner.findings(), await diagnose(watched)):
            assert any("-E" in f.advice for f in findings)


async def diagnose(watched: Any) -> list[Any]:
    from taskq_exporter_celery.adapter import connect

    source = watched.runner.source
    async with connect(source) as client:
        return list(await watched.runner.adapter.diagnose(source, client))


async def test_two_workers_on_one_host_and_one_that_is_killed(redis_url: str, project: Any) -> None:
    options = {"heartbeat_timeout": 3, "worker_ttl": 6}
    async with watch({"adapter": "celery", "url": redis_url, **options}, follow=True) as watched:
        await watched.following()
        first = project.worker("-c", "1", "--heartbeat-interval", "1", name="a@host")
        project.worker("-P", "threads", "-c", "1", name="b@host", queues="other")
        page = await watched.until(lambda p: p.total("taskq_worker_up") == 2, "both are up")
        assert page.by("taskq_worker_up", "worker") == {("a@host",): 1, ("b@host",): 1}
        assert page.by("taskq_worker_info", "software") == {("py-celery",): 2}
        project.send("slow", 600)
        await watched.until(lambda p: p.value("taskq_worker_tasks", worker="a@host", state="running") == 1, "busy", 10)
        assert (await watched.page()).by("taskq_workers", "state")["busy",] == 1
        first.kill()
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="a@host") == 0, "it is down", 15)
        assert page.value("taskq_tasks", queue="celery", state="running") == 0
        assert page.by("taskq_workers", "state")["offline",] == 1
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="a@host") is None, "forgotten", 15)
        assert page.value("taskq_worker_up", worker="b@host") == 1
        assert page.value("taskq_workers_started_total") == 2
        assert page.value("taskq_workers_lost_total") == 1


async def test_a_worker_that_says_goodbye_is_not_lost(redis_url: str, project: Any) -> None:
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        worker = project.worker("-P", "solo").ready()
        await watched.until(lambda p: p.total("taskq_worker_up") == 1, "it is up")
        await asyncio.to_thread(worker.stop)
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down")
        assert not page.total("taskq_workers_lost_total")


async def test_a_dropped_subscriber_subscribes_at_once(redis_url: str, project: Any) -> None:
    """Counters stay, names of tasks in flight too, and the gap is told."""
    project.worker("-P", "threads", "-c", "1").ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok")
        project.send("slow", 2)
        page = await watched.until(lambda p: p.total("taskq_tasks", state="running") == 1, "one runs")
        since = page.value("taskq_source_counting_since_timestamp_seconds")
        with redis.Redis.from_url(redis_url) as client:
            assert [c for c in client.client_list(_type="pubsub") if c["name"].startswith("taskq-exporter")]
            client.client_kill_filter(_type="pubsub", skipme=True)
        page = await watched.until(lambda p: p.value("taskq_source_follower_restarts_total") == 1, "restarted", 5)
        page = await watched.until(lambda p: p.total(FINISHED) == 2, "the second has ended")
        assert outcomes(page) == {("ok", "succeeded"): 1, ("slow", "succeeded"): 1}
        assert since != page.value("taskq_source_counting_since_timestamp_seconds")


async def test_broker_restarted_in_the_middle(redis_own: Server, make_project: Callable[..., Any]) -> None:
    project = make_project(redis_own.url)
    project.worker("-P", "solo").ready()
    async with watch({"adapter": "celery", "url": redis_own.url, "timeout": 1}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        await watched.until(lambda p: p.total(FINISHED) == 3, "all have ended")
        redis_own.stop()
        page = await watched.page()
        assert page.value("taskq_source_up") == 0
        assert page.total(FINISHED) == 3
        await asyncio.to_thread(redis_own.start)
        await watched.until(lambda p: p.value("taskq_source_up") == 1 and watched.runner.following, "up again")
        project.send("ok", n=2)
        page = await watched.until(lambda p: p.total(FINISHED) == 5, "counted on")
        assert outcomes(page) == {("ok", "succeeded"): 5}


async def test_another_event_exchange_and_prefix(redis_url: str, make_project: Callable[..., Any]) -> None:
    options = {"global_keyprefix": "app[1]:", "fanout_prefix": "/of-{db}/"}
    settings = {"event_exchange": "happenings", "broker_transport_options": options, "event_serializer": "yaml"}
    project = make_project(redis_url, **settings, accept_content=["json", "yaml"])
    project.worker("-P", "solo").ready()
    config = {"adapter": "celery", "url": redis_url, "event_exchange": "happenings", **options}
    async with watch(config, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        page = await watched.until(lambda p: p.total(FINISHED) == 3, "all have ended")
    assert outcomes(page) == {("ok", "succeeded"): 3}
