"""Rows of the statements, added up to the records of a snapshot. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from taskq_exporter.api import AdapterError, LongestRun, QueueStats, Reason, State, WorkerState, WorkerStats
from taskq_exporter_postgres.bound import BoundStatement

__all__ = ["Tally", "Told", "told"]

Held = Literal["running", "reserved"]
_K = TypeVar("_K")
#: States whose age the schema knows.
AGED = (State.READY, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the statements over jobs tell together."""

    states: frozenset[State]
    ages: frozenset[State]
    levels: bool  # of ready jobs
    overdue: bool
    tasks: bool  # of running jobs
    workers: bool  # of running jobs


def told(statements: Iterable[BoundStatement]) -> Told:
    """What these statements tell of live jobs."""
    jobs = [one for one in statements if one.kind == "jobs"]

    def any_has(column: str, state: State) -> bool:
        return any(column in one.columns and state in one.states for one in jobs)

    return Told(
        states=frozenset(state for one in jobs for state in one.states if "n" in one.columns),
        ages=frozenset(state for state in AGED if any_has("oldest_seconds", state)),
        levels=any_has("priority", State.READY),
        overdue=any("overdue" in one.columns for one in jobs),
        tasks=any_has("task", State.RUNNING) and any_has("oldest_seconds", State.RUNNING),
        workers=any_has("worker", State.RUNNING),
    )


@dataclass(slots=True)
class _Queue:
    tasks: Counter[State] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)  # of ready jobs
    overdue: int = 0
    oldest: dict[State, float] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)  # fields of QueueStats


@dataclass(slots=True)
class _Holder:
    held: Counter[str] = field(default_factory=Counter)
    longest: float | None = None


class Tally:
    """Adds up rows; afterwards gives the records."""

    def __init__(self, told: Told, default_queue: str, max_count: int) -> None:
        self._told = told
        self._default_queue = default_queue
        self._max_count = max_count
        self._queues: dict[str, _Queue] = {}
        self._longest: dict[tuple[str, str], float] = {}
        self._holders: dict[str, _Holder] = {}
        self._capped: set[State] = set()  # of every queue
        self._capped_alone: set[tuple[str, State]] = set()  # of queues with tables of their own

    def exists(self, queue: str, **known: Any) -> None:
        """A queue that is there, however empty, and fields of its QueueStats; None where not known."""
        found = self._queues.setdefault(queue, _Queue())
        found.known |= {name: value for name, value in known.items() if value is not None}

    def add(self, one: BoundStatement, rows: Iterable[tuple[Any, ...]], *, capped: bool = False) -> None:
        """Rows of a statement of kind jobs; `capped`: there are more than they say, whatever their number.

        Raises AdapterError(schema) where a state is none of those that the statement tells.
        """
        counted: Counter[str] = Counter()
        for queue, word, task, worker, priority, n, age, overdue in rows:
            state = self._state(one, word)
            name = queue or self._default_queue
            found = self._queues.setdefault(name, _Queue())
            found.tasks[state] += n or 0
            counted[name] += n or 0
            if state in AGED:
                _keep_longer(found.oldest, state, age)
            if state is State.READY:
                found.levels[priority or ""] += n or 0
                found.overdue += overdue or 0
            if state is State.RUNNING and self._told.tasks and "task" in one.columns:
                _keep_longer(self._longest, (name, task or ""), age)
            if worker and state in (State.RUNNING, State.RESERVED):
                holder = self._holders.setdefault(worker, _Holder())
                holder.held[state.value] += n or 0
                holder.longest = _longer(holder.longest, age if state is State.RUNNING else None)
        if one.limited and one.each:
            full = [name for name, n in counted.items() if n > self._max_count]
            self._capped_alone |= {(name, state) for name in full for state in one.states}
        elif capped or (one.limited and counted.total() > self._max_count):
            self._capped |= set(one.states)

    def _state(self, one: BoundStatement, word: str | None) -> State:
        if word is None and len(one.states) == 1:
            return one.states[0]
        for state in one.states:
            if state == word:
                return state
        known = ", ".join(one.states)
        raise AdapterError(Reason.SCHEMA, f"{one.doing} gives the state {word!r}; it tells {known}")

    @property
    def capped(self) -> bool:
        """Whether a count stopped, so that there may be queues that were not seen."""
        return bool(self._capped)

    def queues(self) -> list[QueueStats]:
        """Every queue with live jobs, with a known zero for each state that it has none in.

        Where a count stopped at the limit, the numbers of its states are what was counted: at least so many.
        """
        told = self._told
        stats = []
        for name, queue in sorted(self._queues.items()):
            zeros = {state: 0.0 for state in told.ages if not queue.tasks[state]}
            levels = queue.levels if told.levels else {}
            stats.append(
                QueueStats(
                    name=name,
                    tasks={state: queue.tasks[state] for state in State if state in told.states},
                    by_priority={(State.READY, level): n for level, n in sorted(levels.items())},
                    capped={s: True for s in State if s in self._capped or (name, s) in self._capped_alone},
                    overdue=queue.overdue if told.overdue else None,
                    oldest_age={**zeros, **queue.oldest},
                    **queue.known,
                )
            )
        return stats

    def longest_runs(self) -> list[LongestRun]:
        """The longest running job of each queue and task."""
        return [LongestRun(queue=queue, task=task, seconds=s) for (queue, task), s in sorted(self._longest.items())]

    def workers(self, known: Mapping[str, WorkerStats]) -> list[WorkerStats]:
        """The known workers with what they hold, and those known only by a job that they hold."""
        if not self._told.workers:
            return list(known.values())
        held: tuple[Held, ...] = ("running", "reserved")
        told = [state for state in held if State(state) in self._told.states]
        workers = []
        for name in sorted({*known, *self._holders}):
            worker, holder = known.get(name, WorkerStats(name=name)), self._holders.get(name, _Holder())
            state = worker.state
            if state is None and worker.up is not None:
                state = WorkerState.IDLE if worker.up else WorkerState.OFFLINE
            if state is WorkerState.IDLE and holder.held["running"]:
                state = WorkerState.BUSY
            workers.append(
                replace(
                    worker,
                    state=state,
                    tasks={**{state: holder.held[state] for state in told}, **worker.tasks},
                    longest_run=holder.longest,
                )
            )
        return workers


def _longer(one: float | None, other: float | None) -> float | None:
    return max((age for age in (one, other) if age is not None), default=None)


def _keep_longer(ages: dict[_K, float], key: _K, age: float | None) -> None:
    if age is not None:
        ages[key] = max(ages.get(key, 0.0), age)
