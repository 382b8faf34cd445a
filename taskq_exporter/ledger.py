"""What happened over time in one source, as its follower tells it. Pure: no I/O, no asyncio."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import Any

from taskq_exporter.api import DropReason, Family, NameFilter, Outcome, Snapshot
from taskq_exporter.counts.cells import Counter, Histogram, Labels, LedgerView, keep
from taskq_exporter.counts.labelsets import LabelSets
from taskq_exporter.counts.names import Names
from taskq_exporter.schema import LABEL_SETS_CAP, RUN_BOUNDS, STARTS_AT_ZERO, WAIT_BOUNDS, WITH_WORKER

__all__ = ["SourceLedger"]

EVERY_NAME = NameFilter()
_FINISHED = "taskq_tasks_finished_total"
Pair = tuple[str, str, str]  # queue, task, worker as the source's task_labels leave them


class SourceLedger(LabelSets):
    """Implements taskq_exporter.api.Ledger; the core reads it with freeze() and restore()."""

    def __init__(
        self,
        names: Names,
        clock: Callable[[], float],
        *,
        run_bounds: Sequence[float] = RUN_BOUNDS,
        wait_bounds: Sequence[float] = WAIT_BOUNDS,
        task_labels: Sequence[str] = ("queue", "task"),
        queues: NameFilter = EVERY_NAME,
        tasks: NameFilter = EVERY_NAME,
        series_ttl: float = 86400.0,
        label_sets: int = LABEL_SETS_CAP,
        own: Mapping[str, Family] = MappingProxyType({}),
    ) -> None:
        """Count nothing yet; `own` are families beside those of the schema."""
        super().__init__(own, clock, label_sets)
        self.cursor: Any = None
        self.view: Callable[[], Snapshot] | None = None
        self.run_bounds = tuple(run_bounds)
        self.wait_bounds = tuple(wait_bounds)
        self.since: float | None = None
        self.sent = 0  # commands of the follower
        self.lag: float | None = None
        self.followed_at: float | None = None  # when the follower last said where it is; None while it is not following
        self.on_start_over: Callable[[str], None] = lambda _why: None
        self.on_events: Callable[[int], None] = lambda _n: None
        self.on_following: Callable[[], None] = lambda: None
        self._names = names
        self._keep = frozenset(task_labels)
        self._pairs: dict[Pair, Pair | None] = {}  # as given -> as kept; None: filtered out
        self._recent: dict[tuple[str, ...], Counter] = {}  # by family and names as given: what was counted last
        self._zeroed: set[Pair] = set()
        self._counted: set[str] = set()
        self.limit(queues, tasks, series_ttl, label_sets)

    # --- where the follower stands

    def following(self, lag: float | None = 0.0) -> None:
        self.lag, self.followed_at = lag, self._clock()
        if self.since is None:
            self.since = self.followed_at
        self.on_following()

    def counts(self, *what: str) -> None:
        new = set(what) - self._counted
        self._counted |= new
        for pair in self._zeroed:
            self._zero(pair, new)

    def gap(self) -> None:
        self.since = self._clock()

    def start_over(self, why: str) -> None:
        self.cursor = None
        self.since = self._clock()
        for store in (self._counters, self._histograms, self._pairs, self._recent):
            store.clear()
        self._zeroed.clear()
        self.on_start_over(why)

    # --- what happened

    def enqueued(self, queue: str, task: str, priority: str = "", n: int = 1) -> None:
        if pair := self._pair(queue, task, ""):
            labels = (pair[0], pair[1], self._names.admit("priority", priority))
            self._add("taskq_tasks_enqueued_total", labels, n)

    def received(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self._count("taskq_tasks_received_total", queue, task, worker, n)

    def started(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self._count("taskq_tasks_started_total", queue, task, worker, n)

    def finished(
        self, queue: str, task: str, outcome: Outcome, worker: str = "", n: int = 1, exception: str = ""
    ) -> None:
        self._count(_FINISHED, queue, task, worker, n, outcome)

    def retried(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self._count("taskq_tasks_retried_total", queue, task, worker, n)

    def redelivered(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self._count("taskq_tasks_redelivered_total", queue, task, worker, n)

    def exception(self, queue: str, task: str, exception: str, n: int = 1) -> None:
        if pair := self._pair(queue, task, ""):
            labels = (pair[0], pair[1], self._names.admit("exception", exception))
            self._add("taskq_task_exceptions_total", labels, n)

    def ran(self, queue: str, task: str, outcome: Outcome, seconds: float, worker: str = "") -> None:
        if pair := self._pair(queue, task, worker):
            labels = (pair[0], pair[1], outcome.value, pair[2])
            self._observe("taskq_task_run_duration_seconds", labels, self.run_bounds, seconds)

    def ran_many(
        self, queue: str, task: str, outcome: Outcome, counts: Sequence[int], total: float, worker: str = ""
    ) -> None:
        if pair := self._pair(queue, task, worker):
            labels = (pair[0], pair[1], outcome.value, pair[2])
            self._merge("taskq_task_run_duration_seconds", labels, self.run_bounds, counts, total)

    def waited(self, queue: str, seconds: float, task: str = "", worker: str = "") -> None:
        if labels := self._queue(queue, task):
            self._observe("taskq_task_wait_duration_seconds", labels, self.wait_bounds, seconds)

    def waited_many(self, queue: str, counts: Sequence[int], total: float, task: str = "") -> None:
        if labels := self._queue(queue, task):
            self._merge("taskq_task_wait_duration_seconds", labels, self.wait_bounds, counts, total)

    def workers_started(self, n: int = 1) -> None:
        self._add("taskq_workers_started_total", (), n)

    def workers_lost(self, n: int = 1) -> None:
        self._add("taskq_workers_lost_total", (), n)

    def worker_finished(self, worker: str, outcome: Outcome, n: int = 1) -> None:
        self._add("taskq_worker_tasks_finished_total", (self._names.admit("worker", worker), outcome.value), n)

    def worker_busy(self, worker: str, seconds: float) -> None:
        self._add("taskq_worker_busy_seconds_total", (self._names.admit("worker", worker),), max(seconds, 0.0))

    def events(self, n: int = 1) -> None:
        self._add("taskq_source_events_total", (), n)
        self.on_events(n)

    def dropped(self, reason: DropReason, n: int = 1) -> None:
        self._add("taskq_source_events_dropped_total", (reason.value,), n)

    def commands(self, n: int = 1) -> None:
        self.sent += n

    def count(self, family: str, labels: Sequence[str], n: float = 1) -> None:
        if (admitted := self._admitted(family, labels)) is not None:
            self._add(family, admitted, n)

    def observe(self, family: str, labels: Sequence[str], value: float) -> None:
        if (admitted := self._admitted(family, labels)) is not None:
            self._observe(family, admitted, self._families[family].buckets, value)

    # --- what the core does with it

    def limit(self, queues: NameFilter, tasks: NameFilter, series_ttl: float, label_sets: int) -> None:
        """Count only this from now on, and drop the rest; all that is still counted goes on."""
        self._queues, self._tasks, self._series_ttl, self._label_sets = queues, tasks, series_ttl, label_sets
        self._pairs.clear()
        self._recent.clear()
        for name, cells in self._stores():
            keep(cells, self._families[name].labels, {"queue": queues.wants, "task": tasks.wants})

    def freeze(self, *, with_cursor: bool = True) -> LedgerView:
        """The ledger at this moment; also drops label sets that nothing touched for series_ttl.

        Without the cursor, which can be large, it is for a page and no checkpoint.
        """
        last, self._now = self._now, self._clock()
        self._pairs.clear()  # asks the caps anew, so that names in use stay known
        self._recent.clear()
        # what was touched since the last freeze bears the time of that one
        if dropped := self._expire(min(last, self._now - self._series_ttl)):
            self._zeroed = {pair for pair in self._zeroed if pair[:2] not in dropped}
        return LedgerView(
            {name: [(k, c.value, c.born) for k, c in cells.items()] for name, cells in self._counters.items()},
            {
                name: [(k, tuple(h.counts), h.total, h.born) for k, h in cells.items()]
                for name, cells in self._histograms.items()
            },
            self._newest,
            self.since,
            json.dumps(self.cursor) if with_cursor else "null",
        )

    def restore(self, view: LedgerView) -> None:
        """Continue from what a checkpoint held, without families that had another shape then."""
        self.since, self.cursor, self._newest = view.since, json.loads(view.cursor), view.newest
        for name, counters in view.counters.items():
            if self._fits(name, counters):
                self._counters[name] = {k: Counter(value, born, self._now) for k, value, born in counters}
        for name, histograms in view.histograms.items():
            if self._fits(name, histograms):
                self._histograms[name] = {k: Histogram(list(c), t, born, self._now) for k, c, t, born in histograms}
        self.limit(self._queues, self._tasks, self._series_ttl, self._label_sets)  # other filters may hold now
        self._zeroed |= {(queue, task, worker) for queue, task, _, worker in self._counters.get(_FINISHED, {})}

    # --- one label set

    def _admitted(self, family: str, labels: Sequence[str]) -> Labels | None:
        """The labels of an adapter's own family within their caps; None where filtered out."""
        named = list(zip(self._families[family].labels, labels, strict=True))
        wants = {"queue": self._queues.wants, "task": self._tasks.wants}
        if not all(wants[kind](value) for kind, value in named if value and kind in wants):
            return None
        return tuple(self._names.admit(kind, value) for kind, value in named)

    def _queue(self, queue: str, task: str) -> Labels | None:
        """The queue alone, for the waits, which no counter of a task goes with; None where filtered out."""
        if (queue and not self._queues.wants(queue)) or (task and not self._tasks.wants(task)):
            return None
        return (self._names.admit("queue", queue) if "queue" in self._keep else "",)

    def _pair(self, queue: str, task: str, worker: str) -> Pair | None:
        """Queue, task and worker as the filters, task_labels and caps leave them; None where filtered out."""
        given = (queue, task, worker)
        try:
            return self._pairs[given]
        except KeyError:
            pass
        pair: Pair | None = None
        if (not queue or self._queues.wants(queue)) and (not task or self._tasks.wants(task)):
            keep, admit = self._keep, self._names.admit
            pair = (
                admit("queue", queue) if "queue" in keep else "",
                admit("task", task) if "task" in keep else "",
                admit("worker", worker) if "worker" in keep else "",
            )
            if pair not in self._zeroed and len(self._zeroed) < self._label_sets:
                self._zeroed.add(pair)
                self._zero(pair, self._counted)
        if len(self._pairs) > 2 * self._label_sets:  # hostile names must not fill the memory
            self._pairs.clear()
        self._pairs[given] = pair
        return pair

    def _zero(self, pair: Pair, counted: set[str]) -> None:
        """Start the counters of a pair at 0, so that increase() sees the first failure."""
        for what in counted:
            name, values = STARTS_AT_ZERO[what]
            sets: list[Labels] = [(*pair[:2], value) for value in values] or [pair[:2]]
            for labels in sets:
                self._add(name, (*labels, pair[2]) if name in WITH_WORKER else labels, 0)

    def _count(self, name: str, queue: str, task: str, worker: str, n: int, outcome: Outcome | None = None) -> None:
        given = (name, queue, task, worker, outcome or "")
        cell = self._recent.get(given)
        if cell is not None and 0 < n < inf:  # most often: one lookup instead of four
            cell.value += n
            return
        if pair := self._pair(queue, task, worker):
            labels = (pair[0], pair[1], outcome.value, pair[2]) if outcome else pair
            if len(self._recent) > 4 * self._label_sets:
                self._recent.clear()
            self._recent[given] = self._add(name, labels, n)
