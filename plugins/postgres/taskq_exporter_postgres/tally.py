"""Rows of the statements, added up to the records of a snapshot. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from taskq_exporter.api import LongestRun, QueueStats, State, WorkerState, WorkerStats
from taskq_exporter_postgres.capabilities import able_states, tells_overdue, tells_ready_age
from taskq_exporter_postgres.options import PostgresOptions

__all__ = ["Tally"]

Held = Literal["running", "reserved"]
_K = TypeVar("_K")


@dataclass(slots=True)
class _Queue:
    tasks: Counter[State] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)  # of ready jobs
    overdue: int = 0
    oldest: dict[State, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Holder:
    held: Counter[str] = field(default_factory=Counter)
    longest: float | None = None


class Tally:
    """Adds up rows; afterwards gives the records."""

    def __init__(self, options: PostgresOptions) -> None:
        self._table = options.table
        self._able = able_states(options)
        self._queues: dict[str, _Queue] = {}
        self._longest: dict[tuple[str, str], float] = {}
        self._holders: dict[str, _Holder] = {}
        if options.table.columns.queue is None:
            self._queues[options.table.default_queue] = _Queue()  # exists, however empty

    def add_waiting(
        self, queue: str, priority: str | None, state: str, overdue: bool, n: int, age: float | None
    ) -> None:
        """A row of waiting_jobs()."""
        found = self._queues.setdefault(queue, _Queue())
        found.tasks[State(state)] += n
        if state == State.READY:
            found.levels[priority or ""] += n
            found.overdue += n if overdue else 0
            _keep_longer(found.oldest, State.READY, age)

    def add_active(self, state: str, queue: str, task: str, worker: str | None, n: int, run: float | None) -> None:
        """A row of active_jobs()."""
        found = self._queues.setdefault(queue, _Queue())
        found.tasks[State(state)] += n
        _keep_longer(found.oldest, State(state), run)
        _keep_longer(self._longest, (queue, task), run)
        if worker and state in ("running", "reserved"):
            holder = self._holders.setdefault(worker, _Holder())
            holder.held[state] += n
            holder.longest = _longer(holder.longest, run)

    def queues(self) -> list[QueueStats]:
        """Every queue with live jobs, with a known zero for each state that it has none in."""
        ages = {
            State.READY: tells_ready_age(self._table),
            State.RUNNING: self._table.columns.started_at is not None,
        }
        stats = []
        for name, queue in sorted(self._queues.items()):
            zeros = {state: 0.0 for state in self._able if ages.get(state) and not queue.tasks[state]}
            levels = queue.levels if self._table.columns.priority else {}
            stats.append(
                QueueStats(
                    name=name,
                    tasks={state: queue.tasks[state] for state in self._able},
                    by_priority={(State.READY, level): n for level, n in sorted(levels.items())},
                    overdue=queue.overdue if tells_overdue(self._table) else None,
                    oldest_age={**zeros, **queue.oldest},
                )
            )
        return stats

    def longest_runs(self) -> list[LongestRun]:
        """The longest running job of each queue and task."""
        if self._table.columns.task is None:
            return []
        return [LongestRun(queue=queue, task=task, seconds=s) for (queue, task), s in sorted(self._longest.items())]

    def workers(self, known: Mapping[str, WorkerStats]) -> list[WorkerStats]:
        """The worker table's workers with what they hold, and those known only by a job that they hold."""
        if self._table.columns.worker is None:
            return list(known.values())
        held: tuple[Held, ...] = ("running", "reserved")
        told = [state for state in held if State(state) in self._able]
        workers = []
        for name in sorted({*known, *self._holders}):
            worker, holder = known.get(name, WorkerStats(name=name)), self._holders.get(name, _Holder())
            busy = worker.up and holder.held["running"]
            workers.append(
                replace(
                    worker,
                    state=WorkerState.BUSY if busy else worker.state,
                    tasks={state: holder.held[state] for state in told},
                    longest_run=holder.longest,
                )
            )
        return workers


def _longer(one: float | None, other: float | None) -> float | None:
    return max((age for age in (one, other) if age is not None), default=None)


def _keep_longer(ages: dict[_K, float], key: _K, age: float | None) -> None:
    if age is not None:
        ages[key] = max(ages.get(key, 0.0), age)
