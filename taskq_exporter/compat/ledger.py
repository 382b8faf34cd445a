"""A ledger that also counts under other names, each with labels and bounds of its own. Pure.

Sums of what is on the page would go back when one of its series expires; so each family is counted for itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from taskq_exporter.api import Family, NameFilter, Outcome
from taskq_exporter.compat.mapping import MappedFamily, Rule
from taskq_exporter.counts.cells import Counter, Histogram, Labels, LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.ledger import SourceLedger

__all__ = ["MappedLedger"]

RAN, WAITED = "taskq_task_run_duration_seconds", "taskq_task_wait_duration_seconds"


class MappedLedger(SourceLedger):
    """Counts what it is told twice: as the schema says, and as the mappings of its source say."""

    def __init__(
        self,
        mapped: Sequence[MappedFamily],
        names: Names,
        clock: Callable[[], float],
        own: Mapping[str, Family] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        """Count the counters and histograms among these families, whatever `options` say of the uniform ones."""
        self._mapped = {family.name: family for family in mapped if family.family.kind != "gauge"}
        self._rules: dict[str, list[tuple[MappedFamily, Rule]]] = {}
        for family in self._mapped.values():
            for rule in family.rules:
                self._rules.setdefault(rule.family, []).append((family, rule))
        #: By names as given: the cells in which that is counted, and their bounds. Forgotten at each freeze.
        self._cells: dict[tuple[str, ...], list[Counter]] = {}
        self._observed: dict[tuple[str, ...], list[tuple[Histogram, tuple[float, ...]]]] = {}
        theirs = {name: family.family for name, family in self._mapped.items()}
        super().__init__(names, clock, own={**own, **theirs}, **options)

    # --- what happened

    def enqueued(self, queue: str, task: str, priority: str = "", n: int = 1) -> None:
        super().enqueued(queue, task, priority, n)
        self._tell("taskq_tasks_enqueued_total", queue, task, n=n, priority=priority)

    def received(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        super().received(queue, task, worker, n)
        self._tell("taskq_tasks_received_total", queue, task, worker, n)

    def started(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        super().started(queue, task, worker, n)
        self._tell("taskq_tasks_started_total", queue, task, worker, n)

    def finished(
        self, queue: str, task: str, outcome: Outcome, worker: str = "", n: int = 1, exception: str = ""
    ) -> None:
        super().finished(queue, task, outcome, worker, n)
        self._tell("taskq_tasks_finished_total", queue, task, worker, n, outcome=outcome.value, exception=exception)

    def retried(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        super().retried(queue, task, worker, n)
        self._tell("taskq_tasks_retried_total", queue, task, worker, n)

    def ran(self, queue: str, task: str, outcome: Outcome, seconds: float, worker: str = "") -> None:
        super().ran(queue, task, outcome, seconds, worker)
        self._measure(RAN, queue, task, worker, outcome.value, seconds)

    def waited(self, queue: str, seconds: float, task: str = "", worker: str = "") -> None:
        super().waited(queue, seconds, task, worker)
        self._measure(WAITED, queue, task, worker, "", seconds)

    def count(self, family: str, labels: Sequence[str], n: float = 1) -> None:
        super().count(family, labels, n)
        for name, theirs, _ in self._of_own(family, labels):
            self._add(name, theirs, n)

    def observe(self, family: str, labels: Sequence[str], value: float) -> None:
        super().observe(family, labels, value)
        for name, theirs, bounds in self._of_own(family, labels):
            self._observe(name, theirs, bounds, value)

    # --- what the core does with it

    def freeze(self, *, with_cursor: bool = True) -> LedgerView:
        self._forget()
        return super().freeze(with_cursor=with_cursor)

    def limit(self, queues: NameFilter, tasks: NameFilter, series_ttl: float, label_sets: int) -> None:
        super().limit(queues, tasks, series_ttl, label_sets)
        self._forget()

    def start_over(self, why: str) -> None:
        super().start_over(why)
        self._forget()

    def _forget(self) -> None:
        """As the ledger does with what it counted last: names that are in use stay known, and cells alive."""
        self._cells.clear()
        self._observed.clear()

    # --- one fact

    def _tell(
        self,
        what: str,
        queue: str,
        task: str,
        worker: str = "",
        n: int = 1,
        *,
        outcome: str = "",
        exception: str = "",
        priority: str = "",
    ) -> None:
        given = (what, queue, task, worker, outcome, exception, priority)
        cells = self._cells.get(given)
        if cells is None:
            facts = self._facts(queue, task, worker)
            if facts is None:
                return
            if what != "taskq_tasks_enqueued_total":
                self._start_at_zero(facts)
            facts |= {"outcome": outcome, "exception": self._names.admit("exception", exception), "priority": priority}
            cells = [self._add(name, labels, 0) for name, labels, _ in self._theirs(what, facts)]
            if len(self._cells) > 4 * self._label_sets:
                self._cells.clear()
            self._cells[given] = cells
        for cell in cells:
            cell.value += n

    def _measure(self, what: str, queue: str, task: str, worker: str, outcome: str, seconds: float) -> None:
        given = (what, queue, task, worker, outcome)
        cells = self._observed.get(given)
        if cells is None:
            facts = self._facts(queue, task, worker)
            if facts is None:
                return
            found = self._theirs(what, {**facts, "outcome": outcome})
            cells = [(self._histogram(name, labels, bounds), bounds) for name, labels, bounds in found]
            if len(self._observed) > 4 * self._label_sets:
                self._observed.clear()
            self._observed[given] = cells
        seconds = max(seconds, 0.0)
        for cell, bounds in cells:
            cell.counts[bisect_left(bounds, seconds)] += 1
            cell.total += seconds

    def _facts(self, queue: str, task: str, worker: str) -> dict[str, str] | None:
        """The names within their caps; None where they are filtered out."""
        if (queue and not self._queues.wants(queue)) or (task and not self._tasks.wants(task)):
            return None
        admit = self._names.admit
        return {"queue": admit("queue", queue), "task": admit("task", task), "worker": admit("worker", worker)}

    def _of_own(self, family: str, labels: Sequence[str]) -> Iterator[tuple[str, Labels, tuple[float, ...]]]:
        """Theirs that are made of a family of the adapter's own."""
        if family in self._rules and (admitted := self._admitted(family, labels)) is not None:
            yield from self._theirs(family, dict(zip(self._families[family].labels, admitted, strict=True)))

    def _theirs(self, what: str, facts: dict[str, str]) -> Iterator[tuple[str, Labels, tuple[float, ...]]]:
        for family, rule in self._rules.get(what, ()):
            if (labels := rule.read(facts)) is not None:
                yield family.name, labels, family.buckets

    def _start_at_zero(self, facts: dict[str, str]) -> None:
        for family in self._mapped.values():
            for rule in family.rules if family.starts_at_zero else ():
                first = {label: wanted[0] for label, wanted in rule.where.items()}
                if (labels := rule.read({**facts, **first})) is not None:
                    self._add(family.name, labels, 0)
