"""One source at run time: its collects, shared by all scrapers and under a deadline, and its follower.

A failing source becomes a metric, never a failed page.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from taskq_exporter.adapters import Adapter
from taskq_exporter.api import AdapterError, Finding, Reason, Snapshot
from taskq_exporter.checkpoint import Checkpoint
from taskq_exporter.config.sources import ConfiguredSource, make_ledger, make_source
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.counts.scrapers import Scrapers
from taskq_exporter.report import Objective, SourceReport
from taskq_exporter.runtime.background import Background
from taskq_exporter.runtime.connection import Connection
from taskq_exporter.runtime.failures import Failures, cancelled_by_us
from taskq_exporter.runtime.follow import FollowerRunner
from taskq_exporter.runtime.snapshots import merge, with_known_queues
from taskq_exporter.runtime.source_log import SourceLog
from taskq_exporter.runtime.threads import retrieve
from taskq_exporter.telemetry.instrumentation import instrumented_collect
from taskq_exporter.view.history import History

__all__ = ["SourceRunner"]

log = structlog.get_logger("taskq_exporter")

#: After these the client is made anew: what it holds may be dead, or in the middle of an answer.
RECONNECT = frozenset({Reason.CONNECT, Reason.TIMEOUT, Reason.PROTOCOL, Reason.AUTH, Reason.BUG})


class SourceRunner:
    """Collects one source, runs its follower, and reports both."""

    def __init__(self, configured: ConfiguredSource, clock: Callable[[], float] = time.time) -> None:
        self.configured = configured
        config = configured.config
        self.name = config.name
        self.source = make_source(configured)
        self.adapter: Adapter = configured.adapter
        self._clock = clock
        self.names = Names(config.caps(), config.ttls(), clock)
        self.mapped = configured.mapped()
        self.ledger = make_ledger(configured, self.mapped, self.source, self.names, clock)
        self.ledger.on_start_over = self._start_over
        self.scrapers = Scrapers(clock)
        self.started_over = False  # the checkpoint on disk no longer fits
        self.tried = False  # whether a collect has ended, well or badly
        self.error: AdapterError | None = None  # of the last collect, or None where it succeeded
        self.failures = Failures(self.name, self.adapter.name, self.source.timeout)
        self.follower = FollowerRunner(self.adapter, self.source, self.ledger, self.failures)
        self.history = History(config.caps()["queue"])
        self.frozen = LedgerView()  # what pages may show: with checkpoints, what the last one holds
        self.retired = False  # another one counts under its name, or none: its checkpoint is written no more
        self._connection = self._connect()
        self._leaving = Background()
        self._collecting: asyncio.Task[Snapshot] | None = None
        self._begun = 0.0  # the loop's time when it was started
        self._given_up = False  # whether somebody waited for it in vain
        self._snapshot: Snapshot | None = None
        self._snapshot_at = 0.0
        self._snapshot_of = self.source  # as it was configured then
        self._findings: Sequence[Finding] = ()
        self._seconds: float | None = None  # of the last collect, well or badly ended
        self._costs: deque[float] = deque(maxlen=3)  # of those that succeeded
        self._commands = 0
        self._source_log = SourceLog(self.name, self.adapter.name)

    # --- collects

    async def collect(self, until: float) -> SourceReport:
        """Join or start a collect and wait for it until the loop's time `until`; never raises an Exception."""
        if self._fresh():
            return self._report(self._snapshot)
        loop = asyncio.get_running_loop()
        if self._collecting is None or self._collecting.done():
            self._begun, self._given_up = loop.time(), False
            self._collecting = asyncio.create_task(instrumented_collect(self.name, self.adapter.name, self._collect))
            self._collecting.add_done_callback(retrieve)
        task = self._collecting
        await asyncio.wait({task}, timeout=max(until - loop.time(), 0))
        if not task.done():  # a waiter that gives up cancels nothing
            error = AdapterError(Reason.TIMEOUT, "no answer in time")
            if not self._given_up:  # one collect is one error, however many wait for it
                self._given_up = True
                self.failures.take(error, "collect")
            if loop.time() - self._begun > self.source.timeout:  # it does not even end when cancelled
                self._failed(error)
            return self._report(None)
        if task.cancelled() or task.exception() is not None:
            return self._report(None)
        return self._report(task.result())

    def without_collect(self) -> SourceReport:
        """What is known without a look at the source: what its follower counts, and what the configuration says."""
        return self._report(None)

    async def client(self) -> Any:
        """The client that collects use. Raises what the adapter's connect() raises."""
        return await self._connection.client()

    def _fresh(self) -> bool:
        """Whether the last snapshot may be shown again: within min_interval, or while a new one would cost too much."""
        if self._snapshot is None or self.error is not None or self._snapshot_of is not self.source:
            return False
        if self.follower.up is False:  # the server may be gone
            return False
        config, age = self.configured.config, self._clock() - self._snapshot_at
        if 0 <= age < config.min_interval:
            return True
        # the cheapest of the last ones: a server that hung for once does not cost so much
        return config.duty_cycle is not None and 0 <= age * config.duty_cycle < min(self._costs, default=0.0)

    async def _collect(self) -> Snapshot:
        """One collect under the source's own timeout; keeps its result or its error."""
        begun, source, connection = time.perf_counter(), self.source, self._connection
        try:
            async with asyncio.timeout(source.timeout):
                client = await connection.client()
                snapshot = await self.adapter.collect(source, client)
        except (Exception, asyncio.CancelledError) as failed:
            if isinstance(failed, asyncio.CancelledError) and cancelled_by_us():
                raise
            self._seconds = time.perf_counter() - begun
            if self._given_up and isinstance(failed, TimeoutError):  # counted when the page was made
                self.failures.counts[Reason.TIMEOUT] -= 1
            error = self.failures.take(failed, "collect")
            self._failed(error)
            if error.reason in RECONNECT:
                connection.abandon()
            raise error from None
        self._seconds = time.perf_counter() - begun
        self._costs.append(self._seconds)
        self._commands += snapshot.commands
        for problem in snapshot.problems:
            self.failures.count(problem.reason)
        self._source_log.problems(snapshot.problems)
        self._snapshot, self._snapshot_at, self._snapshot_of = snapshot, self._clock(), source
        self.tried, self.error = True, None
        self.failures.recovered("collect")
        self._source_log.up()
        return snapshot

    def _failed(self, error: AdapterError) -> None:
        self.tried, self.error = True, error
        self._source_log.down(error, self.configured.where or "the environment")

    def start(self, checkpoint: Checkpoint | None = None) -> None:
        """Take over a checkpoint and start the follower, where the adapter has one."""
        if checkpoint is not None:
            self.names.restore(checkpoint.names)
            self.ledger.restore(checkpoint.ledger)
            self.scrapers.restore(checkpoint.scrapers)
            self.frozen = self.ledger.freeze(with_cursor=False)
        self.follower.start()

    def _start_over(self, why: str) -> None:
        self.started_over = True
        log.warning("counting starts at 0, now", source=self.name, why=why)

    # --- what the page says

    def note(self, report: SourceReport) -> None:
        """Keep a page's report for people."""
        try:
            self.history.note(report, asyncio.get_running_loop().time())
        except Exception as failed:  # noqa: BLE001 - a record that is none must not fail the page
            self.bug(failed, "history")

    def bug(self, error: Exception, doing: str) -> str:
        """Count something that the adapter must never do; returns what to say of it."""
        return str(self.failures.take(error, doing))

    def complaints(self) -> list[str]:
        """What a person should know of the last collect."""
        if self.error is not None:
            return [f"is down: {self.error.reason.value}: {self.error}"]
        problems = self._snapshot.problems if self._snapshot is not None else ()
        return [f"cannot read {p.part}: {p.reason.value}: {p.message}" for p in problems]

    def findings(self) -> Sequence[Finding]:
        """What the last page that succeeded found for a person to do; empty while the source is down."""
        return self._findings if self.error is None else ()

    def own_families(self) -> dict[str, str]:
        """The kind of each family that it shows beside those of the schema."""
        families = [*self.adapter.families.values(), *(mapped.family for mapped in self.mapped)]
        return {family.name: family.kind for family in families}

    @property
    def following(self) -> bool | None:
        """Whether the follower follows; None where there is none."""
        return self.follower.up

    @property
    def last_success(self) -> float | None:
        """When a collect last succeeded (Unix seconds)."""
        return self._snapshot_at or None

    def freeze(self, *, with_cursor: bool) -> Checkpoint:
        """The ledger and the names at this moment."""
        self.names.expire()
        return Checkpoint(self.ledger.freeze(with_cursor=with_cursor), self.names.dump(), self.scrapers.dump())

    def _report(self, snapshot: Snapshot | None) -> SourceReport:
        config, following = self.configured.config, self.follower.up
        shown, remembered = None, frozenset[str]()
        if snapshot is not None:
            try:
                shown, remembered = self._shown(snapshot)
                self._findings = shown.findings
            except Exception as failed:  # noqa: BLE001 - a record that is none must not fail the page
                self.error = self.failures.take(failed, "collect")
        lag = None
        if following and self.ledger.lag is not None:
            lag = self.ledger.lag + max(self._clock() - (self.ledger.followed_at or 0), 0.0)
        return SourceReport(
            name=self.name,
            adapter=self.adapter.name,
            names=self.names,
            up=shown is not None,
            snapshot=shown,
            remembered=remembered,
            ledger=self.frozen,
            run_bounds=self.ledger.run_bounds,
            wait_bounds=self.ledger.wait_bounds,
            errors=dict(self.failures.counts),
            commands=self._commands + self.ledger.sent,
            collect_seconds=self._seconds,
            snapshot_age=max(self._clock() - self._snapshot_at, 0.0) if snapshot is not None else None,
            last_success=self.last_success,
            follower_up=following,
            follower_lag=lag,
            follower_restarts=self.follower.restarts,
            problem_count=len(shown.problems) if shown is not None else None,
            annotations=config.annotations,
            objectives=[Objective(o.queue, o.start_within, o.ratio) for o in config.objectives],
            disabled=config.disable,
            with_worker="worker" in config.task_labels,
            families=self.adapter.families,
            mapped=self.mapped,
        )

    def _shown(self, snapshot: Snapshot) -> tuple[Snapshot, frozenset[str]]:
        """The snapshot with what the follower sees and with queues that are known to be empty; and which these are."""
        wants = self.source.queues.wants
        parts = [snapshot]
        if self.follower.up and self.ledger.view is not None:
            try:
                view = self.ledger.view()
                parts.append(replace(view, queues=[queue for queue in view.queues if wants(queue.name)]))
                self.failures.recovered("view")
            except Exception as failed:  # noqa: BLE001 - the view is the adapter's code, and must not fail the page
                self.bug(failed, "view")
        parts[0] = replace(snapshot, queues=[queue for queue in snapshot.queues if wants(queue.name)])
        named = {*self.source.queues.expected, *(queue.name for part in parts for queue in part.queues)}
        known = [*self.source.queues.expected, *filter(wants, self.names.known("queue"))]
        for i, part in enumerate(parts):
            known += (queue.name for queue in part.queues)
            parts[i] = with_known_queues(part, known)
        return merge(*parts) if len(parts) > 1 else parts[0], frozenset(known) - named

    # --- another configuration

    def reconfigure(self, configured: ConfiguredSource) -> bool:
        """Take over another configuration of what counts the same (its fingerprint); all counters go on.

        Returns whether anything changed. Clients are made anew, and the follower begins again, only where the adapter
        is given something else.
        """
        before, self.configured, config = self.configured, configured, configured.config
        if not configured.connects_as(before):
            self.source = make_source(configured)
            self.failures.timeout = config.timeout
            self._leaving.start(self._leave(self._connection))
            self._connection = self._connect()
            self.follower.restart(self.source)
        elif config == before.config:
            return False
        self.names.limit(config.caps(), config.ttls())
        self.ledger.limit(self.source.queues, self.source.tasks, config.series_ttl, config.label_sets())
        return True

    def _connect(self) -> Connection:
        return Connection(lambda: self.adapter.connect(self.source))

    async def _leave(self, connection: Connection) -> None:
        """Leave a client when the collect under way, which may use it, has ended."""
        if self._collecting is not None:
            await asyncio.wait({self._collecting}, timeout=self.source.timeout)
        await connection.close()

    async def retire(self) -> None:
        """Let a collect under way end, for the page that waits for it, then close."""
        if self._collecting is not None:
            await asyncio.wait({self._collecting}, timeout=self.source.timeout)
        await self.close()

    async def close(self) -> None:
        """End follower and collect, and leave their clients."""
        if self._collecting is not None and not self._collecting.done():
            self._collecting.cancel()
            await asyncio.wait({self._collecting}, timeout=2)
        await asyncio.gather(self._connection.close(), self.follower.close(), *self._leaving)
