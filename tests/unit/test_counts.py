"""What a page shows of the counters, with checkpoints and without."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import Clock, configured, following

from taskq_exporter import exporter as exporter_module
from taskq_exporter.api import Outcome, Snapshot
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render
from taskq_exporter.report import SourceReport


async def one(exporter: Exporter, **options: Any) -> SourceReport:
    [report] = await exporter.gather(**options)
    return report


async def test_a_scraper_sees_the_first_failure_as_a_step_from_zero_and_a_person_sees_the_truth() -> None:
    clock = Clock()
    ledgers: list[Any] = []

    async def follow(ledger: Any) -> None:
        ledgers.append(ledger)
        ledger.counts("finished")
        ledger.following()
        await asyncio.sleep(60)

    async def collect() -> Snapshot:
        return Snapshot()

    exporter = Exporter(clock=clock)
    exporter.add(configured({"collect": collect, "follow": follow}))
    await following(exporter)

    async def failed(scraper: str | None, task: str = "t") -> float | None:
        clock.now += 10
        page = (await render(exporter, await exporter.gather(scraper=scraper))).decode()
        start = 'taskq_tasks_finished_total{outcome="failed",queue="q",source="s",task="' + task + '"'
        lines = [line for line in page.splitlines() if line.startswith(start)]
        return float(lines[0].split()[-1]) if lines else None

    assert await failed("prometheus-a") is None
    ledgers[0].finished("q", "t", Outcome.FAILED)
    assert await failed(None) == 1
    assert [await failed("prometheus-a") for _ in range(2)] == [0, 1]
    assert [await failed("prometheus-b") for _ in range(2)] == [0, 1]  # may know us from before our start
    clock.now += 60
    assert await failed("prometheus-c") == 1  # may be one of those under a new address: never back to 0
    ledgers[0].finished("q", "t2", Outcome.FAILED)
    assert [await failed(f"prometheus-{x}", "t2") for x in "cacab"] == [0, 0, 1, 1, 0]
    await exporter.close()


async def count_to(state: StateDir, clock: Clock, n: int) -> tuple[Exporter, Any]:
    ledgers: list[Any] = []

    async def follow(ledger: Any) -> None:
        ledgers.append(ledger)
        ledger.following()
        await asyncio.sleep(60)

    async def collect() -> Snapshot:
        return Snapshot()

    exporter = Exporter(state, clock=clock)
    exporter.add(configured({"collect": collect, "follow": follow}))
    await following(exporter)
    ledgers[0].finished("q", "t", Outcome.FAILED, n=n)
    ledgers[0].cursor = (ledgers[0].cursor or 0) + n
    return exporter, ledgers[0]


def shown(report: SourceReport) -> float:
    return sum(v for _, v, _ in report.ledger.counters.get("taskq_tasks_finished_total", []))


async def test_a_page_never_shows_more_than_a_checkpoint_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    state = StateDir(tmp_path)
    exporter, ledger = await count_to(state, clock, 5)
    assert shown(await one(exporter)) == 5
    ledger.finished("q", "t", Outcome.FAILED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(state, "write", full)
        assert shown(await one(exporter)) == 5
        assert exporter.self_metrics.checkpoint_ok is False
    assert shown(await one(exporter)) == 6
    # hung
    hang = threading.Event()
    with monkeypatch.context() as m:
        m.setattr(exporter_module, "WRITE_TIMEOUT", 0.05)
        m.setattr(state, "write", lambda *_: hang.wait(10))
        for _ in range(3):
            begun = time.perf_counter()
            assert shown(await one(exporter)) == 6
            assert time.perf_counter() - begun < 8
        assert exporter.self_metrics.checkpoint_ok is False
    hang.set()
    async with asyncio.timeout(30):
        while not exporter.self_metrics.checkpoint_ok:
            await asyncio.sleep(0.01)
            await exporter.save()
    # killed: no close(), no last checkpoint
    ledger.finished("q", "t", Outcome.FAILED, n=100)
    state.close()
    again, ledger = await count_to(StateDir(tmp_path), clock, 0)
    assert shown(await one(again)) == 6
    assert ledger.cursor == 5
    for e in (exporter, again):
        for runner in e.runners.values():
            await runner.close()


async def test_after_a_restart_nothing_that_a_scraper_has_seen_goes_back_and_what_is_new_starts_at_zero(
    tmp_path: Path,
) -> None:
    clock = Clock()
    state = StateDir(tmp_path)
    exporter, ledger = await count_to(state, clock, 5)
    values = []

    async def page(exporter: Exporter) -> None:
        text = (await render(exporter, await exporter.gather(scraper="prometheus"))).decode()
        values.append([float(x.split()[-1]) for x in text.splitlines() if x.startswith("taskq_tasks_finished_total{")])

    await page(exporter)
    await page(exporter)
    ledger.finished("q", "new", Outcome.FAILED, n=3)
    await exporter.save()  # by the timer: the scraper has not seen it
    state.close()
    again, _ = await count_to(StateDir(tmp_path), clock, 0)
    await page(again)
    await page(again)
    assert values == [[0], [5], [5, 0], [5, 3]]
    for e in (exporter, again):
        for runner in e.runners.values():
            await runner.close()


async def test_starting_over_sets_the_checkpoint_aside(tmp_path: Path) -> None:
    exporter, ledger = await count_to(StateDir(tmp_path), Clock(), 5)
    assert shown(await one(exporter)) == 5
    ledger.start_over("another server")
    assert shown(await one(exporter)) == 0
    assert (tmp_path / "s.json.set-aside").exists()
    await exporter.close()
