"""All sources together: gather a page's reports, write the checkpoints that the page rests on, find new sources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from taskq_exporter.checkpoint import Checkpoint, CheckpointError, StateDir
from taskq_exporter.collector import SourceReport, Violation
from taskq_exporter.config import ConfiguredSource
from taskq_exporter.ledger import LedgerView
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.selfmetrics import SelfMetrics
from taskq_exporter.threads import in_thread

__all__ = ["Exporter"]

log = structlog.get_logger("taskq_exporter")

#: Seconds that a page waits for a checkpoint.
WRITE_TIMEOUT = 1.0
#: Seconds between checkpoints where nobody scrapes.
CHECKPOINT_EVERY = 15.0


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
        self._timer: asyncio.Task[None] | None = None
        self._violated: set[tuple[str, str]] = set()

    def add(self, configured: ConfiguredSource, *, follow: bool = True) -> SourceRunner:
        """Start watching a source."""
        runner = SourceRunner(configured, self._clock)
        checkpoint = None
        if self._state is not None:
            try:
                checkpoint = self._state.read(runner.name, configured.fingerprint())
            except CheckpointError as error:
                log.warning("checkpoint set aside", source=runner.name, why=str(error))
        if follow:
            runner.start(checkpoint)
        self.runners[runner.name] = runner
        self.self_metrics.adapters = list({r.adapter.name: r.adapter for r in self.runners.values()}.values())
        return runner

    def start_timer(self) -> None:
        """Write checkpoints also while nobody scrapes."""
        if self._state is not None and self._timer is None:
            self._timer = asyncio.create_task(self._save_regularly())

    async def gather(self, until: float = float("inf"), scraper: str | None = None) -> list[SourceReport]:
        """A report of every source, at the latest at the loop's time `until`; what it counts is then on disk.

        `scraper` names who the page is for, where it keeps what it reads; None is a person or a tool.
        """
        runners = list(self.runners.values())
        now = asyncio.get_running_loop().time()
        # a collect's own timeout ends it first: its reason is then known, and counted once
        reports = await asyncio.gather(*(r.collect(min(until, now + r.source.timeout + 0.25)) for r in runners))
        async with self._saving:
            held = [await self._save(runner, scraper) for runner in runners]
        return [replace(r, ledger=view, hold_back=h) for r, (view, h) in zip(reports, held, strict=True)]

    async def save(self) -> None:
        """Write every source's checkpoint."""
        async with self._saving:
            for runner in list(self.runners.values()):
                await self._save(runner, None)

    async def _save(self, runner: SourceRunner, scraper: str | None) -> tuple[LedgerView, float]:
        """What a page for `scraper` may show: the ledger as it is now; with state.dir, what is then on disk."""
        before = runner.scrapers.copy()
        hold_back = runner.scrapers.turn(scraper, runner.ledger.newest)
        checkpoint = runner.freeze(with_cursor=self._state is not None)
        if self._state is None or await self._write(self._state, runner, checkpoint):
            runner.frozen = checkpoint.ledger
        else:  # nothing new is shown
            runner.scrapers = before
        return runner.frozen, hold_back

    async def _write(self, state: StateDir, runner: SourceRunner, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint is on disk, within WRITE_TIMEOUT; while one still hangs no other is begun."""
        if self._writing is None or self._writing.done():
            fingerprint, anew, runner.started_over = runner.configured.fingerprint(), runner.started_over, False

            def write() -> None:
                if anew:
                    state.set_aside(runner.name)
                state.write(runner.name, fingerprint, checkpoint)

            self._writing = asyncio.ensure_future(in_thread(write))
            await asyncio.wait({self._writing}, timeout=WRITE_TIMEOUT)
        problem = "the disk does not answer"
        if self._writing.done():
            error = self._writing.exception()
            problem = "" if error is None else str(error)
        if problem and self.self_metrics.checkpoint_ok:
            log.error("checkpoints cannot be written: counters stand still until they can", error=problem)
        self.self_metrics.checkpoint_ok = not problem
        return not problem

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            await self.save()

    def note_violations(self, violations: Sequence[Violation]) -> None:
        """Count what the collector refused, and log each kind once."""
        for v in violations:
            runner = self.runners.get(v.source)
            if runner is not None:
                runner.count_bug()
            if (v.source, v.family) not in self._violated:
                self._violated.add((v.source, v.family))
                log.error("family dropped: bug in adapter", source=v.source, family=v.family, why=v.message)

    async def close(self) -> None:
        """End everything, with a last checkpoint."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(runner.close() for runner in self.runners.values()))
        await self.save()
        if self._state is not None:
            self._state.close()
