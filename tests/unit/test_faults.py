"""What an adapter may do wrong, and what must not come of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import Clock, configured, following

from taskq_exporter.api import AdapterError, Capability, Outcome, Problem, QueueStats, Reason, Sample, Snapshot, State
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.counts.names import Names
from taskq_exporter.exporter import Exporter
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.page import render
from taskq_exporter.report import SourceReport
from taskq_exporter.schema import CAPPED_LABELS

READY = (Capability(family="taskq_tasks", state="ready"),)


def snapshot(**more: Any) -> Snapshot:
    return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 1})], capabilities=READY, **more)


async def good() -> Snapshot:
    return snapshot()


async def page(exporter: Exporter) -> str:
    return (await render(exporter, await exporter.gather())).decode()


@pytest.mark.parametrize(
    "record",
    [
        lambda: Snapshot(queues=[QueueStats(name="q", tasks={"queued": 1})]),  # type: ignore[dict-item]
        lambda: Snapshot(queues=[QueueStats(name=None, tasks={State.READY: 1})]),  # type: ignore[arg-type]
        lambda: Snapshot(queues=[QueueStats(name="q", oldest_age={State.READY: None})]),  # type: ignore[dict-item]
        lambda: Snapshot(queues=None),  # type: ignore[arg-type]
        lambda: Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 10**400})]),
        lambda: Snapshot(samples=[Sample("taskq_task_wait_duration_seconds", ("q",), 1.0)]),
        lambda: Snapshot(samples=[Sample("taskq_tasks_started_total", ["q", "t"], 1.0)]),  # type: ignore[arg-type]
    ],
)
async def test_a_wrong_record_costs_its_source_and_no_other(record: Callable[[], Snapshot]) -> None:
    async def bad() -> Snapshot:
        return record()

    exporter = Exporter()
    exporter.add(configured({"collect": bad}, name="bad", task_labels=["queue", "worker"]))
    exporter.add(configured({"collect": good}, name="good"))
    await page(exporter)
    text = await page(exporter)
    assert 'taskq_tasks{queue="q",source="good",state="ready"} 1.0' in text
    assert 'taskq_source_errors_total{reason="bug",source="bad"} 0.0' not in text
    assert "taskq_task_wait_duration_seconds{" not in text
    await exporter.close()


@pytest.mark.parametrize("view", [lambda: None, lambda: Snapshot(queues=[None]), lambda: 1 / 0])
async def test_a_wrong_view_costs_the_view(view: Callable[[], Any]) -> None:
    async def follow(ledger: Any) -> None:
        ledger.following()
        ledger.view = view
        await asyncio.sleep(60)

    exporter = Exporter()
    exporter.add(configured({"collect": good, "follow": follow}))
    await following(exporter)
    text = await page(exporter)
    assert 'taskq_tasks{queue="q",source="s",state="ready"} 1.0' in text
    await exporter.close()


async def test_a_cursor_that_json_cannot_hold_costs_its_source_the_checkpoint(tmp_path: Path) -> None:
    async def follow(ledger: Any) -> None:
        ledger.following()
        ledger.cursor = {1, 2}
        ledger.finished("q", "t", Outcome.FAILED)
        await asyncio.sleep(60)

    exporter = Exporter(StateDir(tmp_path))
    exporter.add(configured({"collect": good, "follow": follow}, name="bad"))
    exporter.add(configured({"collect": good}, name="good"))
    await following(exporter)
    text = await page(exporter)
    assert 'taskq_source_up{source="bad"} 1.0' in text
    assert "taskq_tasks_finished_total{" not in text
    assert "taskq_exporter_checkpoint_last_write_successful 0.0" in text
    assert (tmp_path / "good.json").exists()
    await exporter.close()


async def test_a_follower_that_fails_after_each_event_is_not_restarted_without_a_pause() -> None:
    async def follow(ledger: Any) -> None:
        ledger.following()
        raise AdapterError(Reason.PROTOCOL, "poison")

    exporter = Exporter()
    runner = exporter.add(configured({"collect": good, "follow": follow}))
    await asyncio.sleep(0.3)
    assert 1 <= runner.follower.restarts <= 3
    await exporter.close()


async def test_a_cancellation_that_leaks_out_of_an_adapter_is_a_bug_and_passes() -> None:
    calls = 0

    async def leak() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            inner = asyncio.create_task(asyncio.sleep(60))
            inner.cancel()
            await inner

    async def collect() -> Snapshot:
        await leak()
        return snapshot()

    @asynccontextmanager
    async def connect() -> AsyncIterator[None]:
        await leak()
        yield

    for hooks in ({"collect": collect}, {"collect": good, "connect": connect}):
        calls = 0
        exporter = Exporter()
        runner = exporter.add(configured(hooks))
        assert 'taskq_source_up{source="s"} 0.0' in await page(exporter)
        assert runner.failures.counts == {Reason.BUG: 1}
        assert runner.tried
        assert 'taskq_source_up{source="s"} 1.0' in await page(exporter)
        await exporter.close()


async def test_a_collect_that_swallows_its_cancellation_is_down_and_said_so() -> None:
    go = asyncio.Event()

    async def collect() -> Snapshot:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
        return snapshot()

    exporter = Exporter()
    runner = exporter.add(configured({"collect": collect}, timeout=0.05))
    for _ in range(2):
        begun = time.perf_counter()
        assert 'taskq_source_up{source="s"} 0.0' in await page(exporter)
        assert time.perf_counter() - begun < 8
    assert runner.tried
    assert runner.error is not None
    assert runner.failures.counts == {Reason.TIMEOUT: 1}
    go.set()
    async with asyncio.timeout(30):
        while 'taskq_source_up{source="s"} 1.0' not in await page(exporter):
            pass
    await exporter.close()


async def test_one_timeout_is_one_error_however_many_wait() -> None:
    async def collect() -> Snapshot:
        await asyncio.sleep(60)
        return snapshot()

    exporter = Exporter()
    runner = exporter.add(configured({"collect": collect}, timeout=0.3))
    now = asyncio.get_running_loop().time()
    await asyncio.gather(*(exporter.gather(now + 0.05) for _ in range(3)), exporter.gather())
    assert runner.failures.counts == {Reason.TIMEOUT: 1}
    await exporter.close()


async def test_a_queue_that_is_gone_is_forgotten_although_somebody_scrapes() -> None:
    clock = Clock()
    there = True

    async def collect() -> Snapshot:
        return snapshot() if there else Snapshot(capabilities=READY)

    exporter = Exporter(clock=clock)
    exporter.add(configured({"collect": collect}, queue_ttl="1h"))
    assert 'taskq_tasks{queue="q",source="s",state="ready"} 1.0' in await page(exporter)
    there = False
    for _ in range(50):
        clock.now += 60
        assert 'taskq_tasks{queue="q",source="s",state="ready"} 0.0' in await page(exporter)
    clock.now += 900
    await page(exporter)
    assert "taskq_tasks{" not in await page(exporter)
    await exporter.close()


async def test_totals_of_the_backend_are_never_summed() -> None:
    queues = 3

    async def collect() -> Snapshot:
        return Snapshot(queues=[QueueStats(name=f"q{i}", enqueued={"": 100}) for i in range(queues)])

    exporter = Exporter()
    exporter.add(configured({"collect": collect}, limits={"queue": 1}))
    for queues in (3, 2, 3):  # noqa: B007 - read by collect
        lines = [x for x in (await page(exporter)).splitlines() if x.startswith("taskq_tasks_enqueued_total{")]
        assert [line.split()[-1] for line in lines] == ["100.0"]
    await exporter.close()


async def test_a_family_told_twice_is_shown_once() -> None:
    async def collect() -> Snapshot:
        return Snapshot(queues=[QueueStats(name="q", enqueued={"": 100})])

    async def follow(ledger: Any) -> None:
        ledger.following()
        ledger.enqueued("q", "")
        await asyncio.sleep(60)

    exporter = Exporter()
    exporter.add(configured({"collect": collect, "follow": follow}))
    await following(exporter)
    lines = [x for x in (await page(exporter)).splitlines() if x.startswith("taskq_tasks_enqueued_total{")]
    assert len(lines) == len(set(lines)) == 1
    assert 'taskq_source_errors_total{reason="bug",source="s"} 1.0' in await page(exporter)
    await exporter.close()


def feed(ledger: Any) -> list[Callable[[], None]]:
    return [
        lambda: ledger.finished("q", "t", Outcome.FAILED, n=-1),
        lambda: ledger.ran("q", "t", Outcome.FAILED, float("nan")),
        lambda: ledger.ran("q", "t", Outcome.FAILED, float("inf")),
        lambda: ledger.waited_many("q", [1] * 3, 1.0),
        lambda: ledger.waited_many("q", [-1] * 15, 1.0),
        lambda: ledger.worker_busy("w", float("nan")),
    ]


@pytest.mark.parametrize("i", range(6))
def test_the_ledger_refuses_what_would_spoil_it(i: int) -> None:
    ledger = SourceLedger(Names(CAPPED_LABELS, {}, Clock()), Clock())
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        feed(ledger)[i]()
    view = ledger.freeze()
    assert all(value == 0 for cells in view.counters.values() for _, value, _ in cells)
    assert all(not any(counts) for cells in view.histograms.values() for _, counts, _, _ in cells)


async def test_parts_that_cannot_be_read_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    broken = True

    async def collect() -> Snapshot:
        problem = Problem(reason=Reason.PERMISSION, part="workers", message="GRANT it")
        return snapshot(problems=[problem] if broken else [])

    exporter = Exporter()
    exporter.add(configured({"collect": collect}))
    for _ in range(3):
        await page(exporter)
    broken = False
    await page(exporter)
    said = capsys.readouterr().out
    assert said.count("cannot read a part") == 1
    assert "GRANT it" in said
    assert said.count("can read the part again") == 1
    await exporter.close()


async def test_a_snapshot_is_not_reused_while_the_follower_is_down() -> None:
    up = True

    async def collect() -> Snapshot:
        await asyncio.sleep(0.05)
        if not up:
            raise AdapterError(Reason.CONNECT, "gone")
        return snapshot()

    async def follow(ledger: Any) -> None:
        ledger.following()
        while up:
            await asyncio.sleep(0.005)
        raise AdapterError(Reason.CONNECT, "gone")

    exporter = Exporter()
    runner = exporter.add(configured({"collect": collect, "follow": follow}, duty_cycle=0.001))
    await following(exporter)
    reports: list[SourceReport] = [*await exporter.gather(), *await exporter.gather()]
    assert [r.up for r in reports] == [True, True]
    up = False
    async with asyncio.timeout(30):
        while runner.following:
            await asyncio.sleep(0.005)
    [report] = await exporter.gather()
    assert not report.up
    await exporter.close()
