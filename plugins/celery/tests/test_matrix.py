"""What happens to tasks and workers, for each version of Celery, pool and broker.

`make test` runs `life_of_tasks` with each combination, and every other scenario with the newest Celery, the prefork
pool and Redis; `make test-all` the full product.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import celery as newest
import pytest
from celery_world import DROPPED, RECEIVED, STARTED, World, outcomes, ready, running

from taskq_exporter.testing import start_rabbitmq, start_redis

pytestmark = pytest.mark.newest

VERSIONS = ("5.4", "newest")
POOLS = ("prefork", "threads", "solo")
BROKERS = ("redis", "rabbitmq")

SCENARIOS: dict[str, Callable[[World], Awaitable[None]]] = {}
NOT_WITH: dict[str, set[str]] = {}  # pools that cannot do it


def scenario(*, not_with: set[str] | None = None) -> Callable[[Any], Any]:
    def register(function: Callable[[World], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
        SCENARIOS[function.__name__] = function
        NOT_WITH[function.__name__] = not_with or set()
        return function

    return register


@scenario()
async def life_of_tasks(w: World) -> None:
    """The compact one: queue, workers, success, failure, retry, and revoked before the start."""
    async with w.watched() as watched:
        w.project.send("ok", n=3)
        await watched.until(lambda p: ready(p) == 3, "three wait")
        w.worker().ready()
        (revoked,) = w.project.send("ok", countdown=1.5)
        await watched.until(lambda p: p.total(RECEIVED) == 4, "the worker has them")
        w.project.app.control.revoke(revoked)
        w.project.send("fail")
        w.project.send("retry")
        expected = {("ok", "succeeded"): 3, ("ok", "cancelled"): 1, ("fail", "failed"): 1, ("retry", "succeeded"): 1}
        page = await w.counted(watched, expected, received=8, started=7, retried=2)
        assert ready(page) == 0
        assert page.total("taskq_tasks_enqueued_total") == 8
        raised = page.by("taskq_task_exceptions_total", "exception")
        assert raised == {("ValueError",): 1, ("KeyError",): 2} or w.loses_events
        assert page.by("taskq_worker_up", "worker") == {("w1@host",): 1}
        version = "5.4.0" if w.celery == "5.4" else newest.__version__
        assert page.value("taskq_worker_info", worker="w1@host", software_version=version) == 1
        assert page.total(DROPPED, reason="decode") == 0
        slots = 1 if w.pool == "solo" else 2
        await watched.until(lambda p: p.value("taskq_worker_slots", worker="w1@host") == slots, "it told of its slots")
        page = await watched.until(lambda p: p.value("taskq_queue_consumers", queue="celery") == 1, "and of its queues")
        assert page.value("taskq_worker_info", worker="w1@host", pool=w.pool) == 1


@scenario(not_with={"threads", "solo"})  # these cannot stop a task
async def revoked_while_it_runs(w: World) -> None:
    async with w.watched() as watched:
        w.worker().ready()
        (task,) = w.project.send("slow", 600)
        await watched.until(lambda p: p.total(STARTED) == 1, "it runs")
        w.project.app.control.revoke(task, terminate=True)
        await w.counted(watched, {("slow", "cancelled"): 1})
        w.project.send("ok")
        await w.counted(watched, {("slow", "cancelled"): 1, ("ok", "succeeded"): 1})


@scenario()
async def rejected(w: World) -> None:
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("reject")
        w.project.send("reject_once")
        expected = {("reject", "rejected"): 1, ("reject_once", "succeeded"): 1}
        page = await w.counted(watched, expected, retried=1)
        assert page.total("taskq_tasks_redelivered_total") == 0 or w.loses_events


@scenario()
async def ignored(w: World) -> None:
    """No event tells of the end, but the worker's heartbeats do."""
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("ignore")
        w.project.send("ok")
        await w.counted(watched, {("ok", "succeeded"): 1}, received=2)
        page = await watched.until(lambda p: p.total("taskq_tasks", state="running") == 0, "nothing runs")
        assert running(page) == 0


@scenario(not_with={"threads", "solo"})  # these know no limits
async def time_limits(w: World) -> None:
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("hard")
        w.project.send("soft")
        page = await w.counted(watched, {("hard", "timed_out"): 1, ("soft", "timed_out"): 1})
        both = {("TimeLimitExceeded",): 1, ("SoftTimeLimitExceeded",): 1}
        assert page.by("taskq_task_exceptions_total", "exception") == both


@scenario()
async def eta(w: World) -> None:
    """A task for later is scheduled, whoever holds it, and its delay is no wait."""
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("ok", countdown=4)
        await watched.until(lambda p: p.value("taskq_tasks", queue="celery", state="scheduled") == 1, "it is scheduled")
        assert ready(await watched.page()) == 0
        page = await w.counted(watched, {("ok", "succeeded"): 1})
        await watched.until(lambda p: p.value("taskq_tasks", queue="celery", state="scheduled") == 0, "it is no more")
        assert page.total("taskq_task_wait_duration_seconds_sum") < 3


@scenario()
async def priorities(w: World) -> None:
    w.project = w.make_project(w.url, celery=w.celery, task_queue_max_priority=9)
    async with w.watched() as watched:
        w.project.send("ok", n=2, priority=0)
        w.project.send("ok", n=3, priority=9)
        page = await watched.until(lambda p: ready(p) == 5, "all wait")
        if w.broker == "redis":
            by_priority = page.by("taskq_tasks_by_priority", "priority", queue="celery", state="ready")
            assert by_priority == {("0",): 2, ("3",): 0, ("6",): 0, ("9",): 3}
        w.worker().ready()
        page = await w.counted(watched, {("ok", "succeeded"): 5})
        assert ready(page) == 0


@scenario()
async def chord(w: World) -> None:
    """A group and its callback, with results in the Redis that may be the broker too."""
    backend = w.request.getfixturevalue("redis_url")
    w.project = w.make_project(w.url, celery=w.celery, result_backend=backend, task_ignore_result=False)
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("chords", 3)
        expected = {("chords", "succeeded"): 1, ("ok", "succeeded"): 3, ("slow", "succeeded"): 1}
        page = await w.counted(watched, expected)
        assert page.by("taskq_tasks", "queue", state="ready") == {("celery",): 0}


@scenario()
async def killed_worker(w: World) -> None:
    async with w.watched(heartbeat_timeout=4, inspect_interval=2) as watched:
        worker = w.worker()
        # Of which pool it is must be known: a solo worker's silence may mean that it works.
        await watched.until(lambda p: p.value("taskq_worker_info", worker="w1@host", pool=w.pool), "it is up")
        if w.pool != "solo":  # says nothing while it works
            w.project.send("slow", 600)
            await watched.until(lambda p: running(p) == 1, "it works")
        worker.kill()
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down")
        assert page.total("taskq_workers_lost_total") == 1
        assert page.total("taskq_tasks", state="running") == 0
        assert not outcomes(page)


@scenario()
async def warm_shutdown(w: World) -> None:
    """The worker finishes what it runs, and leaves what it does not."""
    async with w.watched() as watched:
        worker = w.worker("-c", "1").ready()
        w.project.send("slow", 2)
        await watched.until(lambda p: p.total(RECEIVED) == 1, "it runs")
        await asyncio.to_thread(worker.stop)
        w.project.send("ok", n=2)
        page = await w.counted(watched, {("slow", "succeeded"): 1})
        page = await watched.until(lambda p: ready(p) == 2, "two wait")
        assert page.value("taskq_worker_up", worker="w1@host") == 0
        assert page.total("taskq_workers_lost_total") == 0


@scenario()
async def broker_restarted(w: World) -> None:
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("ok", n=3)
        page = await w.counted(watched, {("ok", "succeeded"): 3})
        assert page.value("taskq_source_problems") == 0
        await asyncio.to_thread(w.server.kill if w.broker == "rabbitmq" else w.server.stop)
        page = await watched.page()
        assert page.value("taskq_source_up") == 0
        assert page.total(RECEIVED) == 3
        await asyncio.to_thread(w.server.start)
        await watched.until(lambda p: p.value("taskq_source_up") == 1, "it is up again")
        await watched.following()
        w.project = w.make_project(w.url, celery=w.celery)
        w.project.send("ok", n=2)
        await w.counted(watched, {("ok", "succeeded"): 5})


@scenario()
async def exporter_restarted(w: World) -> None:
    """Counters go on; what ended meanwhile is missing and not made up."""
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("ok", n=3)
        before = await w.counted(watched, {("ok", "succeeded"): 3})
    w.project.send("ok", n=4)
    await asyncio.sleep(1)
    async with w.watched() as watched:
        page = await watched.page()
        assert outcomes(page) == outcomes(before)
        if w.loses_events:  # what is lost is known from the third heartbeat on
            beats: set[float] = set()
            beat = "taskq_worker_last_heartbeat_timestamp_seconds"
            await watched.until(lambda p: beats.add(p.total(beat)) or len(beats - {0}) > 3, "heartbeats have come")
        w.project.send("ok", n=2)
        await w.counted(watched, {("ok", "succeeded"): 5})


@scenario()
async def consumer_cancelled_and_added(w: World) -> None:
    async with w.watched() as watched:
        w.worker().ready()
        w.project.send("ok", n=2)
        await w.counted(watched, {("ok", "succeeded"): 2})
        control = w.project.app.control
        (answer,) = await asyncio.to_thread(control.cancel_consumer, "celery", reply=True, limit=1, timeout=10)
        assert "ok" in answer["w1@host"]
        await asyncio.sleep(1.2)  # a BRPOP that waits takes one more
        w.project.send("ok", n=3)
        await watched.until(lambda p: p.total("taskq_tasks_enqueued_total") == 5, "they are sent")
        await asyncio.sleep(0.5)
        page = await watched.page()
        assert ready(page) == 3
        assert page.value("taskq_worker_up", worker="w1@host") == 1
        await asyncio.to_thread(control.add_consumer, "celery", reply=True, limit=1, timeout=10)
        page = await w.counted(watched, {("ok", "succeeded"): 5})
        assert ready(page) == 0


@scenario()
async def two_workers_on_one_host(w: World) -> None:
    async with w.watched() as watched:
        w.worker(name="a@host")
        w.worker(name="b@host", queues="other")
        await watched.until(lambda p: p.total("taskq_worker_up") == 2, "both are up")
        w.project.send("ok", n=2)
        page = await w.counted(watched, {("ok", "succeeded"): 2})
        assert page.by("taskq_worker_up", "worker") == {("a@host",): 1, ("b@host",): 1}
        assert page.value("taskq_workers_started_total") == 2


@scenario()
async def scaled_to_zero(w: World) -> None:
    """With no worker up the queue is there, before and after a restart of the exporter, and goes on with the next."""
    async with w.watched() as watched:
        worker = w.worker().ready()
        w.project.send("ok", n=2)
        await w.counted(watched, {("ok", "succeeded"): 2})
        await asyncio.to_thread(worker.stop)
        page = await watched.until(lambda p: p.value("taskq_worker_up", worker="w1@host") == 0, "it is down")
        assert ready(page) == 0
        assert page.total("taskq_workers_lost_total") == 0
    async with w.watched() as watched:
        assert ready(await watched.page()) == 0
        w.project.send("ok", n=3)
        await watched.until(lambda p: ready(p) == 3, "they wait")
        w.worker().ready()
        await w.counted(watched, {("ok", "succeeded"): 5})


#: On Redis with prefork and the newest Celery these are in test_follow.py, more of it: only `make test-all` runs them.
ELSEWHERE = {
    "broker_restarted",
    "ignored",
    "killed_worker",
    "rejected",
    "revoked_while_it_runs",
    "time_limits",
    "two_workers_on_one_host",
}


def matrix() -> Iterator[Any]:
    for name in SCENARIOS:
        for celery in VERSIONS:
            for pool in POOLS:
                for broker in BROKERS:
                    if pool in NOT_WITH[name]:
                        continue
                    first = (celery, pool, broker) == ("newest", "prefork", "redis") and name not in ELSEWHERE
                    quick = first or name == "life_of_tasks"
                    marks = () if quick else (pytest.mark.full,)
                    yield pytest.param(name, celery, pool, broker, id=f"{name}-{celery}-{pool}-{broker}", marks=marks)


@pytest.mark.parametrize(("name", "celery", "pool", "broker"), list(matrix()))
async def test_matrix(
    name: str,
    celery: str,
    pool: str,
    broker: str,
    request: pytest.FixtureRequest,
    make_project: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        server = None
        if name == "broker_restarted":
            server = stack.enter_context(start_redis() if broker == "redis" else start_rabbitmq())
        url = server.url if server else request.getfixturevalue(f"{broker}_url")
        management = ""
        if broker == "rabbitmq":
            management = server.management if server else request.getfixturevalue("rabbitmq_management")
        state_dir = tmp_path / "state"
        await SCENARIOS[name](World(celery, pool, broker, url, make_project, request, state_dir, management, server))
