from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from fakes import Clock, configured, following

from taskq_exporter.api import AdapterError, Capability, Outcome, Problem, QueueStats, Reason, Snapshot, State
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render
from taskq_exporter.report import SourceReport

ABLE = (Capability(family="taskq_tasks", state="ready"),)


def snapshot(n: int = 1) -> Snapshot:
    return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: n})], capabilities=ABLE, commands=2)


async def one(exporter: Exporter, **options: Any) -> SourceReport:
    [report] = await exporter.gather(**options)
    return report


def ready(report: SourceReport) -> dict[str, int]:
    return {q.name: q.tasks[State.READY] for q in report.snapshot.queues} if report.snapshot else {}


async def test_scrapers_share_one_collect_and_a_waiter_that_gives_up_cancels_nothing() -> None:
    calls = 0
    go = asyncio.Event()

    async def collect() -> Snapshot:
        nonlocal calls
        calls += 1
        await go.wait()
        return snapshot()

    exporter = Exporter()
    exporter.add(configured({"collect": collect}))
    now = asyncio.get_running_loop().time()
    hasty = asyncio.create_task(one(exporter, until=now + 0.05))
    patient = [asyncio.create_task(one(exporter)) for _ in range(5)]
    assert (await hasty).up is False
    go.set()
    assert [(await p).up for p in patient] == [True] * 5
    assert calls == 1
    await exporter.close()


async def test_each_failure_is_a_metric_with_its_reason_and_leaves_the_others_alone() -> None:
    async def refused() -> Snapshot:
        raise AdapterError(Reason.AUTH, "wrong password")

    async def slow() -> Snapshot:
        await asyncio.sleep(60)
        return snapshot()

    async def broken() -> Snapshot:
        raise ZeroDivisionError

    async def nothing() -> None:
        return None

    async def good() -> Snapshot:
        return snapshot()

    exporter = Exporter()
    for name, hook in (("auth", refused), ("slow", slow), ("bug", broken), ("none", nothing), ("good", good)):
        exporter.add(configured({"collect": hook}, name=name, timeout=0.1))
    begun = time.perf_counter()
    reports = {r.name: r for r in await exporter.gather()}
    assert time.perf_counter() - begun < 8
    assert {name: r.up for name, r in reports.items()} == {
        "auth": False, "slow": False, "bug": False, "none": False, "good": True,
    }  # fmt: skip
    assert {name: dict(r.errors) for name, r in reports.items()} == {
        "auth": {Reason.AUTH: 1}, "slow": {Reason.TIMEOUT: 1}, "bug": {Reason.BUG: 1}, "none": {Reason.BUG: 1},
        "good": {},
    }  # fmt: skip
    await exporter.close()


async def test_the_client_is_kept_and_made_anew_after_an_error() -> None:
    entered, left = [], []
    fail = False

    @asynccontextmanager
    async def connect() -> AsyncIterator[int]:
        entered.append(len(entered))
        try:
            yield len(entered)
        finally:
            left.append(len(left))

    async def collect(client: int) -> Snapshot:
        if fail:
            raise AdapterError(Reason.CONNECT, "gone")
        return snapshot(client)

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "connect": connect}))
    assert ready(await one(exporter)) == ready(await one(exporter)) == {"q": 1}
    fail = True
    assert not (await one(exporter)).up
    fail = False
    assert ready(await one(exporter)) == {"q": 2}
    await exporter.close()
    assert (len(entered), len(left)) == (2, 2)


async def test_a_connect_that_hangs_or_raises_is_a_failed_collect() -> None:
    @asynccontextmanager
    async def hangs() -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield

    @asynccontextmanager
    async def raises() -> AsyncIterator[None]:
        raise AdapterError(Reason.CONNECT, "refused")
        yield

    async def collect() -> Snapshot:
        return snapshot()

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "connect": hangs}, name="hangs", timeout=0.1))
    exporter.add(configured({"collect": collect, "connect": raises}, name="raises"))
    for n in (1, 2):
        reports = {r.name: r for r in await exporter.gather()}
        assert dict(reports["hangs"].errors) == {Reason.TIMEOUT: n}
        assert dict(reports["raises"].errors) == {Reason.CONNECT: n}
    await exporter.close()


async def test_a_plain_def_runs_in_a_thread_and_one_that_hangs_is_not_started_again() -> None:
    go, calls = threading.Event(), []

    def collect() -> Snapshot:
        calls.append(threading.current_thread().daemon)
        go.wait(10)
        return snapshot()

    exporter = Exporter()
    exporter.add(configured({"collect": collect}, timeout=0.05))
    for _ in range(3):
        assert not (await one(exporter)).up
    assert calls == [True]
    go.set()
    async with asyncio.timeout(30):
        while not (await one(exporter)).up:
            await asyncio.sleep(0.01)
    await exporter.close()


async def test_a_plain_def_that_ends_an_iterator_too_early_is_a_bug_said_at_once() -> None:
    def collect() -> Snapshot:
        return next(iter(()))

    exporter = Exporter()
    exporter.add(configured({"collect": collect}, timeout=30))
    assert dict((await one(exporter)).errors) == {Reason.BUG: 1}
    await exporter.close()


async def test_a_successful_snapshot_is_reused_within_min_interval_and_duty_cycle_a_failure_never() -> None:
    clock = Clock()
    calls, fail = 0, False

    async def collect() -> Snapshot:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        if fail:
            raise AdapterError(Reason.BUSY, "locked")
        return snapshot(calls)

    exporter = Exporter(clock=clock)
    exporter.add(configured({"collect": collect}, min_interval="10s", duty_cycle=0.001))
    assert ready(await one(exporter)) == ready(await one(exporter)) == {"q": 1}
    clock.now += 11  # 0.02 s every 20 s is what the duty cycle allows
    report = await one(exporter)
    assert ready(report) == {"q": 1}
    assert report.snapshot_age == pytest.approx(11)
    clock.now += 60
    assert ready(await one(exporter)) == {"q": 2}
    clock.now += 600
    fail = True
    await one(exporter)
    await one(exporter)
    assert calls == 4
    await exporter.close()


async def test_a_follower_is_restarted_and_its_counts_stay() -> None:
    runs = 0

    async def follow(ledger: Any) -> None:
        nonlocal runs
        runs += 1
        ledger.following()
        ledger.counts("finished")
        ledger.finished("q", "t", Outcome.FAILED)
        if runs < 3:
            raise AdapterError(Reason.CONNECT, "lost")
        ledger.view = lambda: Snapshot(queues=[QueueStats(name="q", consumers=4)])
        await asyncio.sleep(60)

    async def collect() -> Snapshot:
        return snapshot()

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "follow": follow}))
    async with asyncio.timeout(30):
        while runs < 3:
            await asyncio.sleep(0.01)
    report = await one(exporter)
    assert report.follower_up is True
    assert report.follower_restarts == 2
    assert dict(report.errors) == {Reason.CONNECT: 2}
    assert ("q", "t", "failed", "") in {k: v for k, v, _ in report.ledger.counters["taskq_tasks_finished_total"]}
    assert [v for k, v, _ in report.ledger.counters["taskq_tasks_finished_total"] if "failed" in k] == [3]
    assert report.snapshot is not None
    assert report.snapshot.queues[0].consumers == 4
    await exporter.close()


async def test_counters_stay_while_the_source_is_down_and_no_gauge_does() -> None:
    up = True

    async def collect() -> Snapshot:
        if not up:
            raise AdapterError(Reason.CONNECT, "gone")
        return snapshot()

    async def follow(ledger: Any) -> None:
        ledger.following()
        ledger.finished("q", "t", Outcome.FAILED)
        await asyncio.sleep(60)

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "follow": follow}))
    await following(exporter)
    assert b'taskq_tasks{queue="q"' in await render(exporter, await exporter.gather())
    up = False
    page = (await render(exporter, await exporter.gather())).decode()
    assert 'taskq_source_up{source="s"} 0.0' in page
    assert 'taskq_tasks_finished_total{outcome="failed",queue="q",source="s",task="t"} 1.0' in page
    assert "taskq_tasks{" not in page
    assert "hunter2" not in page
    await exporter.close()


async def test_a_view_that_raises_is_a_bug_and_not_a_failed_page() -> None:
    async def follow(ledger: Any) -> None:
        ledger.following()
        ledger.view = lambda: 1 / 0
        await asyncio.sleep(60)

    async def collect() -> Snapshot:
        return snapshot()

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "follow": follow}))
    await following(exporter)
    report = await one(exporter)
    assert report.up
    assert report.errors[Reason.BUG] == 1
    await exporter.close()


async def test_queues_of_the_view_the_filter_and_the_expectation_meet_on_the_page() -> None:
    async def follow(ledger: Any) -> None:
        ledger.following()
        running = Capability(family="taskq_tasks", state="running")
        ledger.view = lambda: Snapshot(
            queues=[
                QueueStats(name="busy", tasks={State.RUNNING: 1}),
                QueueStats(name="tmp.1", tasks={State.RUNNING: 1}),
            ],
            capabilities=(running,),
        )
        await asyncio.sleep(60)

    async def collect() -> Snapshot:
        return replace(snapshot(), problems=[Problem(reason=Reason.PROTOCOL, part="another")])

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "follow": follow}, queues={"exclude": ["tmp.*"], "expected": ["new"]}))
    await following(exporter)
    report = await one(exporter)
    assert report.snapshot is not None
    assert {q.name: dict(q.tasks) for q in report.snapshot.queues} == {
        "q": {State.READY: 1, State.RUNNING: 0},
        "new": {State.READY: 0, State.RUNNING: 0},
        "busy": {State.RUNNING: 1},
    }
    await exporter.close()
