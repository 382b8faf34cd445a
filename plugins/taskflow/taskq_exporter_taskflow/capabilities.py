"""What a TaskFlow source can tell, and what TaskFlow does not keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from taskq_exporter.api import Capability, State

__all__ = ["CAPABILITIES"]

_STATES = (State.READY, State.SCHEDULED, State.RETRY, State.BLOCKED, State.RUNNING)
_TOLD = (
    "taskq_tasks_overdue",
    "taskq_task_longest_run_seconds",
    "taskq_workers",
    "taskq_worker_up",
    "taskq_worker_slots",
    "taskq_worker_last_heartbeat_timestamp_seconds",
    "taskq_worker_start_timestamp_seconds",
    "taskq_worker_tasks_finished_total",
    "taskq_worker_busy_seconds_total",
    "taskq_worker_restarts_total",
    "taskq_scheduler_up",
    "taskq_scheduler_entries",
    "taskq_schedule_next_run_timestamp_seconds",
    "taskq_tasks_finished_total",
    "taskq_task_run_duration_seconds",
)
#: Rows are written again and again, so that neither how many were made nor how long they waited can be told.
_NOT_TOLD = (
    "taskq_tasks_by_priority",
    "taskq_worker_longest_run_seconds",
    "taskq_queue_consumers",
    "taskq_queue_slots",
    "taskq_queue_paused",
    "taskq_tasks_enqueued_total",
    "taskq_tasks_received_total",
    "taskq_tasks_started_total",
    "taskq_tasks_retried_total",
    "taskq_tasks_redelivered_total",
    "taskq_task_exceptions_total",
    "taskq_task_wait_duration_seconds",
    "taskq_schedule_last_run_timestamp_seconds",
)


def _all() -> Iterator[Capability]:
    for state in State:
        able = state in _STATES
        yield Capability(family="taskq_tasks", state=state, reason="none" if able else "backend")
    for state in (State.READY, State.RUNNING):
        yield Capability(family="taskq_oldest_task_age_seconds", state=state)
    yield Capability(family="taskq_worker_tasks", state=State.RUNNING)
    yield from (Capability(family=family) for family in _TOLD)
    yield from (Capability(family=family, reason="backend") for family in _NOT_TOLD)


CAPABILITIES: Final = tuple(_all())
