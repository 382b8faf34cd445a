"""All sources together: gather a page's reports, write the checkpoints that the page rests on, change the sources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from taskq_exporter.api import Reason
from taskq_exporter.checkpoint import CheckpointError, StateDir
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.report import SourceReport, Violation
from taskq_exporter.runtime.background import Background
from taskq_exporter.runtime.threads import in_thread, retrieve
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.selection import EVERY_FAMILY, Selection
from taskq_exporter.selfmetrics import SelfMetrics
from taskq_exporter.telemetry.tracing import span

__all__ = ["Changes", "Exporter"]

log = structlog.get_logger("taskq_exporter")

#: Seconds that a page waits for its checkpoints, and those of them that may lie beyond its deadline.
WRITE_TIMEOUT = 1.0
WRITE_GRACE = 0.25
#: Seconds between checkpoints where nobody scrapes.
CHECKPOINT_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Changes:
    """The names of sources that came, changed and went."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]


class Exporter:
    """The sources of one configuration at run time."""

    def __init__(self, state: StateDir | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.runners: dict[str, SourceRunner] = {}
        self.self_metrics = SelfMetrics()
        self.self_metrics.checkpoint_ok = True if state else None
        self._state = state
        self._clock = clock
        self._saving = asyncio.Lock()
        self._writing: asyncio.Future[None] | None = None
        self._unwritten: set[str] = set()  # sources whose checkpoint could not be written
        self._timer: asyncio.Task[None] | None = None
        self._retiring = Background()
        self._violated: set[tuple[str, str]] = set()

    def add(self, configured: ConfiguredSource, *, follow: bool = True) -> SourceRunner:
        """Start watching a source."""
        runner = self._start(configured, follow=follow)
        self._watch({**self.runners, runner.name: runner})
        return runner

    def remove(self, name: str) -> SourceRunner:
        """Watch a source no more, and keep nothing of it; returns what the caller is to retire."""
        runner = self.runners[name]
        self._watch({other: r for other, r in self.runners.items() if other != name})
        return runner

    def _start(self, configured: ConfiguredSource, *, follow: bool = True) -> SourceRunner:
        runner = SourceRunner(configured, self._clock)
        checkpoint = None
        if self._state is not None:
            try:
                checkpoint = self._state.read(
                    runner.name, configured.fingerprint(), (runner.ledger.run_bounds, runner.ledger.wait_bounds)
                )
            except CheckpointError as error:
                log.warning("checkpoint set aside", source=runner.name, why=str(error))
        if follow:
            runner.start(checkpoint)
        return runner

    def _watch(self, runners: dict[str, SourceRunner]) -> None:
        self.runners = runners
        self.self_metrics.adapters = list({r.adapter.name: r.adapter for r in runners.values()}.values())
        self._unwritten &= runners.keys()
        self._violated = {(source, family) for source, family in self._violated if source in runners}

    async def apply(self, sources: Sequence[ConfiguredSource]) -> Changes:
        """Watch these sources instead, from one moment to the next; not to be called twice at once.

        What counts the same (its fingerprint) goes on, with its client and follower where the adapter is given the
        same; what came is new, and what went is not on the next page. A page under way still shows what it began with,
        and its collects end. The checkpoint of what went stays, so that it goes on where it comes back.
        """
        counted = {source.config.name: source.fingerprint() for source in sources}
        gone = [r for r in self.runners.values() if counted.get(r.name) != r.configured.fingerprint()]
        # their last counts are written before others may count under their names
        await asyncio.gather(*(runner.follower.close() for runner in gone))
        await self.save(gone)
        changed: list[str] = []
        async with self._saving:
            runners: dict[str, SourceRunner] = {}
            for runner in gone:
                runner.retired = True
            for source in sources:
                old = self.runners.get(source.config.name)
                if old is None or old.retired:
                    runners[source.config.name] = self._start(source)
                else:
                    runners[old.name] = old
                    changed += [old.name] * old.reconfigure(source)
            before = self.runners
            self._watch(runners)
        for runner in gone:
            self._retiring.start(runner.retire())
        changed += [runner.name for runner in gone if runner.name in runners]
        return Changes(
            added=[name for name in runners if name not in before],
            changed=changed,
            removed=[name for name in before if name not in runners],
        )

    def start_timer(self) -> None:
        """Write checkpoints also while nobody scrapes."""
        if self._state is not None and self._timer is None:
            self._timer = asyncio.create_task(self._save_regularly())

    async def gather(
        self,
        until: float = float("inf"),
        scraper: str | None = None,
        *,
        runners: Sequence[SourceRunner] | None = None,
        selection: Selection = EVERY_FAMILY,
    ) -> list[SourceReport]:
        """A report of every source, at the latest at the loop's time `until`; what it counts is then on disk.

        `scraper` names who the page is for, where it keeps what it reads; None is a person or a tool. With `runners`
        only those are asked, and with `selection` nothing is done that the page does not show.
        """
        runners = list(self.runners.values()) if runners is None else runners
        asked = [r for r in runners if selection.collects(r.own_families(), r.configured.config.disable)]
        now = asyncio.get_running_loop().time()
        # a collect's own timeout ends it first: its reason is then known
        with span("scrape", sources=len(asked)) as work:
            looks = await asyncio.gather(*(r.collect(min(until, now + r.source.timeout + 0.25)) for r in asked))
            work.set(down=sum(not report.up for report in looks))
        collected = {report.name: report for report in looks}
        reports = [collected.get(r.name) or r.without_collect() for r in runners]
        if selection.counts():
            held = await self.save(runners, scraper, until)
            reports = [replace(r, ledger=view, hold_back=h) for r, (view, h) in zip(reports, held, strict=True)]
        for runner, report in zip(runners, reports, strict=True):
            # else the page only did not wait for it
            if runner.name in collected and (report.up or runner.error is not None):
                runner.note(report)
        return reports

    async def save(
        self, runners: Sequence[SourceRunner] | None = None, scraper: str | None = None, until: float = float("inf")
    ) -> list[tuple[LedgerView, float]]:
        """Write the sources' checkpoints, and return what a page for `scraper` may show of each.

        That is the ledger as it is now; with state.dir, as it is on disk: where that cannot be had in time, as it was.
        """
        runners = list(self.runners.values()) if runners is None else runners
        if self._state is None:
            return [(self._freeze(runner), runner.scrapers.turn(scraper, runner.ledger.newest)) for runner in runners]
        now = asyncio.get_running_loop().time()
        until = min(max(until, now) + WRITE_GRACE, now + WRITE_TIMEOUT)
        try:
            async with asyncio.timeout_at(until):
                await self._saving.acquire()
        except TimeoutError:
            return [(runner.frozen, runner.scrapers.hold_back(scraper)) for runner in runners]
        try:
            return [await self._save(self._state, runner, scraper, until) for runner in runners]
        finally:
            self._saving.release()

    async def _save(
        self, state: StateDir, runner: SourceRunner, scraper: str | None, until: float
    ) -> tuple[LedgerView, float]:
        if runner.retired:
            return runner.frozen, runner.scrapers.hold_back(scraper)
        problem = "the disk does not answer"
        before, hold_back = runner.scrapers.copy(), runner.scrapers.hold_back(scraper)
        if await self._settled(until):  # else an earlier one hangs
            try:
                runner.scrapers.turn(scraper, runner.ledger.newest)
                checkpoint, fingerprint = runner.freeze(with_cursor=True), runner.configured.fingerprint()
                write = partial(state.write, runner.name, fingerprint, checkpoint, anew=runner.started_over)
                self._writing = asyncio.ensure_future(in_thread(write))
                self._writing.add_done_callback(retrieve)
                if await self._settled(until):
                    self._writing.result()
                    runner.started_over = False
                    runner.frozen = checkpoint.ledger
                    problem = ""
            except OSError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - a cursor that JSON cannot hold is a bug of one adapter
                problem = runner.bug(error, "checkpoint")
        if problem:
            runner.scrapers = before
        self._note_checkpoint(runner.name, problem)
        return runner.frozen, hold_back

    async def _settled(self, until: float) -> bool:
        """Whether the write under way, if there is one, has ended in time, well or badly."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=max(until - asyncio.get_running_loop().time(), 0))
        return self._writing is None or self._writing.done()

    def _freeze(self, runner: SourceRunner) -> LedgerView:
        runner.frozen = runner.freeze(with_cursor=False).ledger
        return runner.frozen

    def _note_checkpoint(self, source: str, problem: str) -> None:
        """One line for each change."""
        if problem and source not in self._unwritten:
            self._unwritten.add(source)
            log.error("no checkpoint can be written: counters stand still until it can", source=source, error=problem)
        elif not problem and source in self._unwritten:
            self._unwritten.discard(source)
            log.info("checkpoints can be written again", source=source)
        self.self_metrics.checkpoint_ok = not self._unwritten

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            await self.save()

    def note_violations(self, violations: Sequence[Violation]) -> None:
        """Count what the collector refused, and log each kind once."""
        for v in violations:
            runner = self.runners.get(v.source)
            if runner is not None:
                runner.failures.count(Reason.BUG)
            if (v.source, v.family) not in self._violated:
                self._violated.add((v.source, v.family))
                log.error("family dropped: bug in adapter", source=v.source, family=v.family, why=v.message)

    async def close(self) -> None:
        """End everything, with a last checkpoint."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(runner.close() for runner in self.runners.values()), *self._retiring)
        await self.save()
        if self._state is not None:
            self._state.close()
