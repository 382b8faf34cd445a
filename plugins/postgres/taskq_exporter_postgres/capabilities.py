"""What a described table can tell, and what it cannot and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from taskq_exporter.api import Capability, State
from taskq_exporter_postgres.options import LIVE, PostgresOptions, Table

__all__ = ["able_states", "capabilities", "tells_overdue", "tells_ready_age"]

Why = Literal["none", "permission", "option", "backend"]
#: What the worker table and the connection tell.
_NOT_OF_JOBS = ("taskq_worker_up", "taskq_worker_last", "taskq_worker_start", "taskq_worker_slots", "taskq_broker_")


def able_states(options: PostgresOptions) -> tuple[State, ...]:
    """The states that the configured words and columns tell."""
    table = options.table
    waiting = any(table.words(state) for state in (State.READY, State.SCHEDULED, State.RETRY))
    by_time = waiting and table.columns.scheduled_at is not None
    able = {
        State.READY: bool(table.words(State.READY)) or by_time,
        State.SCHEDULED: bool(table.words(State.SCHEDULED)) or by_time,
        State.RETRY: bool(table.words(State.RETRY)) or (by_time and table.columns.attempts is not None),
    }
    return tuple(state for state in LIVE if able.get(state, bool(table.words(state))))


def tells_overdue(table: Table) -> bool:
    """Whether jobs whose state still says that they wait are seen to be due."""
    return table.columns.scheduled_at is not None and bool(table.words(State.SCHEDULED) or table.words(State.RETRY))


def tells_ready_age(table: Table) -> bool:
    """Whether the moment is known since which a job could have run."""
    return table.columns.created_at is not None or table.columns.scheduled_at is not None


def capabilities(options: PostgresOptions, *, visible: bool = True) -> list[Capability]:
    """Every family that a jobs table could have, and why one is missing: an option, or not in such a table at all.

    Args:
        options: The described table.
        visible: Whether every row of the jobs table can be seen.
    """

    def reason(family: str, why: Why) -> Why:
        return "permission" if why == "none" and not visible and not family.startswith(_NOT_OF_JOBS) else why

    return [Capability(family=family, state=state, reason=reason(family, why)) for family, state, why in _rows(options)]


def _rows(options: PostgresOptions) -> Iterator[tuple[str, str, Why]]:
    def option(given: object) -> Why:
        return "none" if given else "option"

    table, columns, workers = options.table, options.table.columns, options.workers
    able = able_states(options)
    for state in State:
        # finished jobs are history: counting them costs more every day, so they are counted as they end
        yield "taskq_tasks", state.value, option(state in able) if state in LIVE else "backend"
    ready, running = State.READY in able, State.RUNNING in able
    yield "taskq_tasks_by_priority", State.READY.value, option(ready and columns.priority)
    yield "taskq_tasks_overdue", "", option(tells_overdue(table))
    yield "taskq_oldest_task_age_seconds", State.READY.value, option(ready and tells_ready_age(table))
    yield "taskq_oldest_task_age_seconds", State.RUNNING.value, option(running and columns.started_at)
    yield "taskq_task_longest_run_seconds", "", option(running and columns.task and columns.started_at)
    yield "taskq_worker_longest_run_seconds", "", option(running and columns.worker and columns.started_at)
    for held in (State.RUNNING, State.RESERVED):
        yield "taskq_worker_tasks", held.value, option(held in able and columns.worker)
    yield "taskq_workers", "", option(workers and running and columns.worker)
    yield "taskq_worker_up", "", option(workers)
    yield "taskq_worker_last_heartbeat_timestamp_seconds", "", option(workers)
    yield "taskq_worker_start_timestamp_seconds", "", option(workers and workers.columns.started_at)
    yield "taskq_worker_slots", "", option(workers and workers.columns.slots)
    yield "taskq_queue_consumers", "", "backend"
    yield "taskq_broker_roundtrip_seconds", "", "none"
    finished = bool(options.outcomes)
    yield "taskq_tasks_finished_total", "", option(finished)
    yield "taskq_task_run_duration_seconds", "", option(finished and columns.started_at)
    yield (
        "taskq_task_wait_duration_seconds",
        "",
        option(finished and columns.started_at and (columns.created_at or columns.scheduled_at)),
    )
    for counted in ("enqueued", "received", "started", "retried", "redelivered"):
        yield f"taskq_tasks_{counted}_total", "", "backend"
