"""One source at run time: its collects, shared by all scrapers and under a deadline, and its follower.

A failing source becomes a metric, never a failed page.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from taskq_exporter.adapters import Adapter
from taskq_exporter.api import AdapterError, Reason, Snapshot
from taskq_exporter.checkpoint import Checkpoint
from taskq_exporter.collector import Objective, SourceReport
from taskq_exporter.config import ConfiguredSource, make_source
from taskq_exporter.connection import Connection
from taskq_exporter.ledger import LedgerView, SourceLedger
from taskq_exporter.names import Names
from taskq_exporter.scrapers import Scrapers
from taskq_exporter.snapshots import merge, with_known_queues

__all__ = ["SourceRunner"]

log = structlog.get_logger("taskq_exporter")

#: After these the client is made anew: what it holds may be dead, or in the middle of an answer.
RECONNECT = frozenset({Reason.CONNECT, Reason.TIMEOUT, Reason.PROTOCOL, Reason.AUTH, Reason.BUG})
#: Seconds before the n-th restart of a follower that never followed; the first is at once.
BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class SourceRunner:
    """Collects one source, runs its follower, and reports both."""

    def __init__(self, configured: ConfiguredSource, clock: Callable[[], float] = time.time) -> None:
        self.configured = configured
        config = configured.config
        self.name = config.name
        self.source = make_source(configured)
        self.adapter: Adapter = configured.adapter
        self._clock = clock
        self.names = Names(
            config.caps(),
            {
                "queue": config.queue_ttl,
                "task": config.series_ttl,
                "worker": config.worker_ttl,
                "exception": config.series_ttl,
                "priority": config.series_ttl,
                "scheduler": config.queue_ttl,
                "entry": config.queue_ttl,
            },
            clock,
        )
        self.ledger = SourceLedger(
            self.names,
            clock,
            run_bounds=config.buckets.run,
            wait_bounds=config.buckets.wait,
            task_labels=config.task_labels,
            queues=self.source.queues,
            tasks=self.source.tasks,
            series_ttl=config.series_ttl,
            label_sets=config.label_sets(),
        )
        self.ledger.on_start_over = self._start_over
        self.scrapers = Scrapers(clock)
        self.started_over = False  # the checkpoint on disk no longer fits
        self.tried = False  # whether a collect has ended, well or badly
        self.error: AdapterError | None = None  # of the last collect, or None where it succeeded
        self.errors: Counter[Reason] = Counter()
        self.frozen = LedgerView()  # what pages may show: with checkpoints, what the last one holds
        self._connection = Connection(lambda: self.adapter.connect(self.source))
        self._follow_connection = Connection(lambda: self.adapter.connect(self.source))
        self._collecting: asyncio.Task[Snapshot] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_at = 0.0
        self._seconds: float | None = None
        self._commands = 0
        self._restarts = 0
        self._follow_error = ""
        self._said_up: bool | None = None

    # --- collects

    async def collect(self, until: float) -> SourceReport:
        """Join or start a collect and wait for it until the loop's time `until`; never raises an Exception."""
        if self._fresh():
            return self._report(self._snapshot)
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._collect())
            self._collecting.add_done_callback(_retrieve)
        task = self._collecting
        loop = asyncio.get_running_loop()
        await asyncio.wait({task}, timeout=max(until - loop.time(), 0))
        if not task.done():  # a waiter that gives up cancels nothing
            self.errors[Reason.TIMEOUT] += 1
            return self._report(None)
        if task.cancelled() or task.exception() is not None:
            return self._report(None)
        return self._report(task.result())

    def _fresh(self) -> bool:
        """Whether the last snapshot may be shown again: within min_interval, or while a new one would cost too much."""
        if self._snapshot is None or self.error is not None:
            return False
        config, age = self.configured.config, self._clock() - self._snapshot_at
        if 0 <= age < config.min_interval:
            return True
        return config.duty_cycle is not None and 0 <= age * config.duty_cycle < (self._seconds or 0)

    async def _collect(self) -> Snapshot:
        """One collect under the source's own timeout; keeps its result or its error."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self.source.timeout):
                client = await self._connection.client()
                snapshot = await self.adapter.collect(self.source, client)
        except Exception as failed:  # noqa: BLE001 - whatever the adapter raises must not fail the page
            error = self._expected(failed, "collect")
            self._seconds = time.perf_counter() - begun
            self._failed(error)
            if error.reason in RECONNECT:
                self._connection.abandon()
            raise error from None
        self._seconds = time.perf_counter() - begun
        self._commands += snapshot.commands
        for problem in snapshot.problems:
            self.errors[problem.reason] += 1
        self._snapshot, self._snapshot_at = snapshot, self._clock()
        self.tried, self.error = True, None
        self._say(True)
        return snapshot

    def _failed(self, error: AdapterError) -> None:
        self.errors[error.reason] += 1
        self.tried, self.error = True, error
        self._say(False)

    def _expected(self, error: Exception, doing: str) -> AdapterError:
        """The error itself where it is expected; a timeout; else a bug, with its traceback in the log."""
        if isinstance(error, AdapterError):
            return error
        if isinstance(error, TimeoutError):
            return AdapterError(Reason.TIMEOUT, f"no answer within {self.source.timeout:g} s")
        log.error("bug in adapter", source=self.name, adapter=self.adapter.name, doing=doing, exc_info=error)
        return AdapterError(Reason.BUG, f"{type(error).__name__} in adapter {self.adapter.name}; see the log")

    def _say(self, up: bool) -> None:
        """One line per change of state, not one per failed scrape."""
        if up == self._said_up:
            return
        self._said_up = up
        if up:
            log.info("source is up", source=self.name, adapter=self.adapter.name)
        else:
            reason = self.error.reason.value if self.error else ""
            where = self.configured.where or "the environment"
            log.warning("source is down", source=self.name, reason=reason, error=str(self.error), configured=where)

    # --- the follower

    def start(self, checkpoint: Checkpoint | None = None) -> None:
        """Take over a checkpoint and start the follower, where the adapter has one."""
        if checkpoint is not None:
            self.names.restore(checkpoint.names)
            self.ledger.restore(checkpoint.ledger)
            self.scrapers.restore(checkpoint.scrapers)
            self.frozen = self.ledger.freeze()
        if self.adapter.has("follow"):
            self._follower = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        failures = 0
        while True:
            self.ledger.followed_at = None
            error = AdapterError(Reason.PROTOCOL, "the follower ended")
            try:
                async with asyncio.timeout(self.source.timeout):
                    client = await self._follow_connection.client()
                await self.adapter.follow(self.source, client, self.ledger)
            except Exception as failed:  # noqa: BLE001 - a follower that ends for any reason is restarted
                error = self._expected(failed, "follow")
            failures = 0 if self.ledger.followed_at is not None else failures + 1
            self.ledger.followed_at = None
            self.errors[error.reason] += 1
            self._restarts += 1
            if str(error) != self._follow_error:
                self._follow_error = str(error)
                log.warning("follower stopped", source=self.name, reason=error.reason.value, error=str(error))
            self._follow_connection.abandon()
            await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])

    def _start_over(self, why: str) -> None:
        self.started_over = True
        log.warning("counting starts at 0, now", source=self.name, why=why)

    # --- what the page says

    def count_bug(self) -> None:
        """Count something that the adapter must never do."""
        self.errors[Reason.BUG] += 1

    @property
    def following(self) -> bool | None:
        """Whether the follower follows; None where there is none."""
        return None if self._follower is None else self.ledger.followed_at is not None

    @property
    def last_success(self) -> float | None:
        """When a collect last succeeded (Unix seconds)."""
        return self._snapshot_at or None

    def freeze(self, *, with_cursor: bool) -> Checkpoint:
        """The ledger and the names at this moment."""
        self.names.expire()
        return Checkpoint(self.ledger.freeze(with_cursor=with_cursor), self.names.dump(), self.scrapers.dump())

    def _report(self, snapshot: Snapshot | None) -> SourceReport:
        config = self.configured.config
        following = self.ledger.followed_at is not None
        shown = self._shown(snapshot) if snapshot is not None else None
        lag = None
        if following and self.ledger.lag is not None:
            lag = self.ledger.lag + max(self._clock() - (self.ledger.followed_at or 0), 0.0)
        return SourceReport(
            name=self.name,
            adapter=self.adapter.name,
            names=self.names,
            up=snapshot is not None,
            snapshot=shown,
            ledger=self.frozen,
            run_bounds=self.ledger.run_bounds,
            wait_bounds=self.ledger.wait_bounds,
            errors=dict(self.errors),
            commands=self._commands + self.ledger.sent,
            collect_seconds=self._seconds,
            snapshot_age=max(self._clock() - self._snapshot_at, 0.0) if snapshot is not None else None,
            last_success=self.last_success,
            follower_up=self.following,
            follower_lag=lag,
            follower_restarts=self._restarts,
            problem_count=len(shown.problems) if shown is not None else None,
            annotations=config.annotations,
            objectives=[Objective(o.queue, o.start_within, o.ratio) for o in config.objectives],
            disabled=config.disable,
            with_worker="worker" in config.task_labels,
            families=self.adapter.families,
        )

    def _shown(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot as the page has it: with what the follower sees, and with queues that are known to be empty."""
        wants = self.source.queues.wants
        known = [*self.source.queues.expected, *filter(wants, self.names.known("queue"))]
        parts = [snapshot]
        if self.following and self.ledger.view is not None:
            try:
                parts.append(self.ledger.view())
            except Exception as failed:  # noqa: BLE001 - the view is the adapter's code, and must not fail the page
                self.errors[self._expected(failed, "view").reason] += 1
        for i, part in enumerate(parts):
            queues = [queue for queue in part.queues if wants(queue.name)]
            known += (queue.name for queue in queues)
            parts[i] = with_known_queues(replace(part, queues=queues), known)
        return merge(*parts) if len(parts) > 1 else parts[0]

    async def close(self) -> None:
        """End follower and collect, and leave their clients."""
        tasks = {task for task in (self._follower, self._collecting) if task is not None and not task.done()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        self.ledger.followed_at = None
        await asyncio.gather(self._connection.close(), self._follow_connection.close())


def _retrieve(task: asyncio.Task[Snapshot]) -> None:
    """Look at a shared collect's error, so that asyncio does not complain where every waiter has gone."""
    with suppress(asyncio.CancelledError):
        task.exception()
