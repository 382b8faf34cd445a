"""The half of a collect that the database tells: scheduled, blocked, running tasks, workers, schedules, campaigns."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from taskq_exporter_sql import SqlClient, Told, Transaction, read_only, server_told

from taskq_exporter.api import (
    AdapterError,
    LongestRun,
    Problem,
    Reason,
    ScheduleEntry,
    SchedulerStats,
    Source,
    State,
    WorkerStats,
)
from taskq_exporter_taskflow.client import SHARE
from taskq_exporter_taskflow.names import LIVE_CAMPAIGNS, QUEUES, WORKER_STATES
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.statements import MAX_ROWS, queries
from taskq_exporter_taskflow.tables import OF_ONE, Layout, guard, look

__all__ = ["SCHEDULER", "Rows", "read_rows", "worker_of"]

#: TaskFlow's scheduler has no name.
SCHEDULER = "scheduler"
_STATES = {"scheduled": State.SCHEDULED, "retry": State.RETRY, "blocked": State.BLOCKED, "overdue": State.READY}
#: The states that the rows of a status may be in.
_OF_STATUS = {
    "PENDING": (State.SCHEDULED, State.BLOCKED, State.READY),
    "QUEUED": (),
    "SCHEDULED": (State.SCHEDULED, State.READY),
    "RETRYING": (State.RETRY, State.READY),
}


@dataclass(slots=True)
class Queue:
    """The rows of one queue."""

    tasks: Counter[State] = field(default_factory=Counter)  # READY: due, and not moved to the list
    listed: int = 0  # rows that should be in the list
    listed_age: float | None = None  # seconds
    overdue_age: float | None = None
    running_age: float | None = None


@dataclass(slots=True)
class Rows:
    """What the database told; what is None or left out of `answered` is not known."""

    answered: set[str] = field(default_factory=set)  # names of statements
    queues: dict[str, Queue] = field(default_factory=lambda: {name: Queue() for name in QUEUES})
    capped: set[State] = field(default_factory=set)
    longest_runs: list[LongestRun] = field(default_factory=list)
    workers: dict[str, WorkerStats] = field(default_factory=dict)
    entries: list[ScheduleEntry] = field(default_factory=list)
    late: float | None = None  # seconds that the longest due PENDING task is late
    campaigns: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    server: Told | None = None
    version: str = ""
    by_update: bool = False

    def scheduler(self, late_after: float) -> SchedulerStats | None:
        """The scheduler by what it should have moved; None where nothing is scheduled, or not known."""
        if not {"schedules", "waiting"} <= self.answered:
            return None
        scheduled = any(queue.tasks[State.SCHEDULED] for queue in self.queues.values())
        if not self.entries and self.late is None and not scheduled:
            return None
        complete = State.SCHEDULED not in self.capped
        return SchedulerStats(
            name=SCHEDULER,
            up=(self.late or 0.0) < late_after,
            entry_count=len(self.entries) if complete else None,
            entries=tuple(self.entries),
        )


async def read_rows(source: Source, client: SqlClient) -> Rows:
    """All of it, in one transaction. A statement that cannot be sent is a problem of its own. Raises AdapterError."""
    options: TaskflowOptions = source.options
    asked = queries(options, worker_ttl=source.worker_ttl)
    rows = Rows()
    clock = asyncio.get_running_loop().time
    ends = clock() + SHARE * source.timeout
    async with read_only(client, timeout=SHARE * source.timeout) as transaction:
        layout = await look(client, transaction, options)
        await guard(transaction, layout, options, asked)
        for name, query in asked.items():
            try:
                answer = await _answer(transaction, layout, name, query)
            except AdapterError as error:
                if error.reason not in OF_ONE:
                    raise
                rows.problems.append(Problem(reason=error.reason, part=name, message=str(error)))
            else:
                rows.answered.add(name)
                _ADD[name](rows, options, answer)
        rows.seconds = {name: transaction.seconds[name] for name in sorted(rows.answered)}
        rows.version = client.server_version
        rows.by_update = layout.by_update
    roundtrip, left = transaction.roundtrip_seconds, ends - clock()
    rows.server = await server_told(client, roundtrip=roundtrip, left=left, disabled=source.disabled)
    if rows.problems:
        client.memory.clear()  # perhaps mended by the next time
    rows.problems += rows.server.problems
    return rows


async def _answer(transaction: Transaction, layout: Layout, name: str, query: sql.Composable) -> list[tuple[Any, ...]]:
    if name in layout.refused:
        raise layout.refused[name]
    async with transaction.savepoint():
        answer = await transaction.fetch(name, query, doing=f"statement {name}")
    if name in ("running", "schedules") and len(answer) > MAX_ROWS:
        raise AdapterError(Reason.COST, f"statement {name}: more than {MAX_ROWS} names of tasks")
    return answer


def _waiting(rows: Rows, options: TaskflowOptions, answer: list[tuple[Any, ...]]) -> None:
    counted: Counter[str] = Counter()
    for name, status, what, n, age in answer:
        queue = rows.queues[name]
        counted[status] += n
        if what == "listed":
            queue.listed += n
            queue.listed_age = _longer(queue.listed_age, age)
        else:
            queue.tasks[_STATES[what]] += n
        if what == "overdue":
            queue.overdue_age = _longer(queue.overdue_age, age)
            if status == "PENDING":  # the scheduler looks for no other
                rows.late = _longer(rows.late, age)
    for status, states in _OF_STATUS.items():
        if counted[status] > options.max_count:
            rows.capped |= set(states)


def _running(rows: Rows, _: TaskflowOptions, answer: list[tuple[Any, ...]]) -> None:
    for name, task, n, age in answer:
        queue = rows.queues[name]
        queue.tasks[State.RUNNING] += n
        queue.running_age = _longer(queue.running_age, age)
        if age is not None:
            rows.longest_runs.append(LongestRun(queue=name, task=task, seconds=max(age, 0.0)))


def _workers(rows: Rows, _: TaskflowOptions, answer: list[tuple[Any, ...]]) -> None:
    if len(answer) > MAX_ROWS:
        text = f"more than {MAX_ROWS} workers with a heartbeat: the freshest are shown"
        rows.problems.append(Problem(reason=Reason.COST, part="workers", message=text))
    for worker, status, capacity, load, heartbeat, fresh in answer[:MAX_ROWS]:
        rows.workers[worker] = worker_of(
            worker, status or "", capacity=capacity, load=load, heartbeat=heartbeat, fresh=bool(fresh)
        )


def worker_of(
    name: str, status: str, *, capacity: int | None, load: int | None, heartbeat: float | None, fresh: bool | None
) -> WorkerStats:
    """A worker by what it last said; `fresh`: whether that is not too long ago, None where not known."""
    state = WORKER_STATES.get(status)
    up = fresh
    if state is WORKER_STATES["OFFLINE"]:
        up = False
    elif fresh is False:
        state = WORKER_STATES["OFFLINE"]
    elif state is WORKER_STATES["IDLE"] and load:
        state = WORKER_STATES["BUSY"]
    return WorkerStats(
        name=name,
        up=up,
        state=state,
        slots=capacity if capacity is not None and capacity >= 0 else None,
        tasks={"running": load} if load is not None and load >= 0 else {},
        last_heartbeat=heartbeat,
    )


def _schedules(rows: Rows, _: TaskflowOptions, answer: list[tuple[Any, ...]]) -> None:
    rows.entries += (ScheduleEntry(name=f"{task} {cron}", next_run=next_run) for task, cron, next_run in sorted(answer))


def _campaigns(rows: Rows, _: TaskflowOptions, answer: list[tuple[Any, ...]]) -> None:
    rows.campaigns = dict.fromkeys(LIVE_CAMPAIGNS, 0) | dict(answer)


_ADD = {
    "waiting": _waiting,
    "running": _running,
    "workers": _workers,
    "schedules": _schedules,
    "campaigns": _campaigns,
}


def _longer(one: float | None, other: float | None) -> float | None:
    """The longer of two ages, at least 0: clocks differ."""
    return max((max(age, 0.0) for age in (one, other) if age is not None), default=None)
