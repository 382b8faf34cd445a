"""What a source can tell, and what it cannot and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from taskq_exporter.api import Capability, Outcome, Reason, State
from taskq_exporter_postgres.bound import Binding
from taskq_exporter_postgres.options import LIVE, PostgresOptions, Table
from taskq_exporter_postgres.tally import told

__all__ = ["able_states", "capabilities", "tells_overdue", "tells_ready_age"]

Why = Literal["none", "permission", "option", "backend"]

_WORKERS = "describe the table of workers: workers: {name: ..., columns: {...}}"
#: What a described table's source must say to tell a family (of one state), where only that is missing.
_ADVICE = {
    "taskq_tasks_by_priority": "name table.columns.priority",
    "taskq_tasks_overdue": "name table.columns.scheduled_at, and the words of table.states.scheduled or retry",
    "taskq_oldest_task_age_seconds ready": "name table.columns.created_at or scheduled_at",
    "taskq_oldest_task_age_seconds running": "name table.columns.started_at, and the words of table.states.running",
    "taskq_task_longest_run_seconds": "name table.columns.task and started_at",
    "taskq_worker_longest_run_seconds": "name table.columns.worker and started_at",
    "taskq_worker_tasks": "name table.columns.worker, and the words of the state in table.states",
    "taskq_tasks_finished_total": "name table.columns.finished_at, and the words of table.states.succeeded and failed",
    "taskq_task_run_duration_seconds": "name table.columns.started_at and finished_at",
    "taskq_task_wait_duration_seconds": "name table.columns.started_at, finished_at, and created_at or scheduled_at",
}


def able_states(options: PostgresOptions) -> tuple[State, ...]:
    """The states that a described table's words and columns tell."""
    table = options.table
    if table is None:
        return ()
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


def capabilities(options: PostgresOptions, binding: Binding) -> list[Capability]:
    """Every family that a queue in PostgreSQL could have, and why one is missing.

    `option`: the configuration can change it; `backend`: such a table, or this queue system, does not say;
    `permission`: a right is missing.
    """
    return [
        Capability(
            family=family,
            state=state,
            reason="none" if able else why,
            advice=_advice(family, state) if why == "option" and not able else "",
        )
        for family, state, able, why in _rows(options, binding)
    ]


def _advice(family: str, state: str) -> str:
    if family == "taskq_tasks":
        return f"give the words of table.states.{state}, if the table has such jobs"
    return _ADVICE.get(f"{family} {state}") or _ADVICE.get(family, _WORKERS)


def _rows(options: PostgresOptions, binding: Binding) -> Iterator[tuple[str, str, object, Why]]:
    statements = binding.statements
    tells = told(statements)
    otherwise: Why = "option" if options.table else "backend"
    forbidden = [part for part, reason in binding.lacking.items() if reason is Reason.PERMISSION]
    of_jobs: Why = "permission" if any(part == "rows" or "jobs." in part for part in forbidden) else otherwise
    of_workers: Why = "permission" if any("workers" in part for part in forbidden) else otherwise

    def has(kind: str, column: str) -> bool:
        return any(column in one.columns for one in statements if one.kind == kind)

    for state in State:
        # of a table, finished jobs are history: counting them costs more every day, so they are counted as they end
        why: Why = of_jobs if state in LIVE or not options.table else "backend"
        yield "taskq_tasks", state.value, state in tells.states, why
    ready, running = State.READY, State.RUNNING
    yield "taskq_tasks_by_priority", ready.value, tells.levels and ready in tells.states, of_jobs
    yield "taskq_tasks_overdue", "", tells.overdue, of_jobs
    yield "taskq_oldest_task_age_seconds", ready.value, ready in tells.ages, of_jobs
    yield "taskq_oldest_task_age_seconds", running.value, running in tells.ages, of_jobs
    yield "taskq_task_longest_run_seconds", "", tells.tasks, of_jobs
    yield "taskq_worker_longest_run_seconds", "", tells.workers and running in tells.ages, of_jobs
    for held in (running, State.RESERVED):
        by_jobs = tells.workers and held in tells.states
        yield "taskq_worker_tasks", held.value, by_jobs or has("workers", held.value), of_jobs
    states = has("workers", "state") or (tells.workers and has("workers", "up"))
    yield "taskq_workers", "", states, of_workers
    yield "taskq_worker_up", "", has("workers", "up"), of_workers
    yield "taskq_worker_last_heartbeat_timestamp_seconds", "", has("workers", "last_heartbeat"), of_workers
    yield "taskq_worker_start_timestamp_seconds", "", has("workers", "started"), of_workers
    yield "taskq_worker_slots", "", has("workers", "slots"), of_workers
    for column, family in (
        ("consumers", "taskq_queue_consumers"),
        ("slots", "taskq_queue_slots"),
        ("paused", "taskq_queue_paused"),
    ):
        yield family, "", has("queues", column), "backend"
    for column, family in (("last_run", "last_run"), ("next_run", "next_run")):
        yield f"taskq_schedule_{family}_timestamp_seconds", "", has("schedules", column), "backend"
    yield "taskq_scheduler_entries", "", any(one.kind == "schedules" for one in statements), "backend"
    yield from _happened(options, binding, otherwise)


def _happened(options: PostgresOptions, binding: Binding, otherwise: Why) -> Iterator[tuple[str, str, object, Why]]:
    """What the follower counts: by the configuration, for its statements are bound on a connection of its own."""
    if table := options.table:
        columns, ends = table.columns, set(options.outcomes)
        runs = waits = bool(ends and columns.started_at)
        waits = waits and bool(columns.created_at or columns.scheduled_at)
        started = enqueued = False
    else:
        followed = binding.followed
        ends = {outcome for one in followed.of("finished").values() for outcome in one.outcomes}
        texts = [one.sql for one in followed.of("finished").values()]
        runs, waits = (any(column in text for text in texts) for column in ("run_seconds", "wait_seconds"))
        started, enqueued = bool(followed.of("started")), bool(followed.of("enqueued"))
    if "rows" in binding.lacking:
        ends, runs, waits, otherwise = set(), False, False, "permission"
    yield "taskq_tasks_finished_total", "", ends - {Outcome.RETRIED}, otherwise
    yield "taskq_task_run_duration_seconds", "", runs, otherwise
    yield "taskq_task_wait_duration_seconds", "", waits, otherwise
    yield "taskq_tasks_retried_total", "", Outcome.RETRIED in ends, "backend"
    yield "taskq_tasks_started_total", "", started, "backend"
    enqueued = enqueued or any(one.kind == "queues" and "enqueued" in one.columns for one in binding.statements)
    yield "taskq_tasks_enqueued_total", "", enqueued, "backend"
    for counted in ("received", "redelivered"):
        yield f"taskq_tasks_{counted}_total", "", False, "backend"
