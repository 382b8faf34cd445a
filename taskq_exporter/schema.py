"""The uniform metric schema, version 1: every family that a source can have, as data.

A family is added here, to docs/metrics.md (`make docs`) and to the golden pages in one change.
"""

from __future__ import annotations

from typing import Final

from taskq_exporter.api import Family

__all__ = [
    "CAPPED_LABELS",
    "FAMILIES",
    "LABEL_SETS_CAP",
    "OTHER",
    "RUN_BOUNDS",
    "SCHEMA_VERSION",
    "STARTS_AT_ZERO",
    "WAIT_BOUNDS",
    "WITH_WORKER",
]

SCHEMA_VERSION: Final = 1

#: Upper bounds of the histograms in seconds.
RUN_BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAIT_BOUNDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

#: How many values of a label one source may have; first come, first kept.
CAPPED_LABELS: Final = {
    "queue": 1000,
    "task": 500,
    "worker": 1000,
    "exception": 100,
    "priority": 20,
    "scheduler": 20,
    "entry": 200,
    "channel": 1000,
    "method": 20,
}
#: How many label sets one ledger family of a source may have.
LABEL_SETS_CAP: Final = 10_000
#: The label value under which everything over a cap adds up.
OTHER: Final = "_other"

#: Families whose labels a source's `task_labels` extends with `worker`.
WITH_WORKER: Final = frozenset(
    {
        "taskq_tasks_received_total",
        "taskq_tasks_started_total",
        "taskq_tasks_finished_total",
        "taskq_tasks_retried_total",
        "taskq_tasks_redelivered_total",
        "taskq_task_run_duration_seconds",
    }
)
#: What a (queue, task) seen for the first time starts at 0, by the names that Ledger.counts() takes.
STARTS_AT_ZERO: Final = {
    "enqueued": ("taskq_tasks_enqueued_total", ("",)),
    "received": ("taskq_tasks_received_total", ()),
    "started": ("taskq_tasks_started_total", ()),
    "retried": ("taskq_tasks_retried_total", ()),
    "finished": ("taskq_tasks_finished_total", ("succeeded", "failed")),
    "succeeded": ("taskq_tasks_finished_total", ("succeeded",)),
    "failed": ("taskq_tasks_finished_total", ("failed",)),
}


def _gauge(name: str, help_: str, *labels: str, overflow: str = "drop") -> Family:
    return Family(name=name, kind="gauge", help=help_, labels=labels, overflow=overflow)  # type: ignore[arg-type]


def _counter(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind="counter", help=help_, labels=labels, overflow="sum")


def _histogram(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind="histogram", help=help_, labels=labels, overflow="sum")


_ALL = (
    # The source itself
    _gauge("taskq_source_up", "1 if anything could be read in the last collect."),
    _gauge("taskq_source_info", "What is watched.", "adapter", "server", "server_version"),
    _gauge("taskq_source_annotations_info", "The source's annotations from the configuration, for joins."),
    _gauge("taskq_source_collect_duration_seconds", "How long the last collect took."),
    _gauge("taskq_source_snapshot_age_seconds", "How old the shown snapshot is."),
    _gauge("taskq_source_last_success_timestamp_seconds", "When a collect last succeeded."),
    _gauge("taskq_source_counting_since_timestamp_seconds", "Since when the counters count without a gap."),
    _counter("taskq_source_errors_total", "Failed collects, follower failures and unreadable parts.", "reason"),
    _gauge("taskq_source_problems", "Parts that could not be read now."),
    _counter("taskq_source_commands_total", "Commands or statements sent to the server."),
    _gauge("taskq_source_query_duration_seconds", "How long a costly statement took last.", "query"),
    _gauge("taskq_source_series", "Series that this source puts on the page, this one left out."),
    _counter("taskq_source_label_overflow_total", "Values refused because a label's cap was reached.", "label"),
    _gauge(
        "taskq_source_capability",
        "1 if this source can tell a family (of a state), 0 if not.",
        "family",
        "state",
        "reason",
    ),
    _gauge("taskq_source_follower_up", "1 while the follower is following."),
    _gauge("taskq_source_follower_lag_seconds", "How far the follower is behind."),
    _counter("taskq_source_follower_restarts_total", "Restarts of the follower."),
    _counter("taskq_source_events_total", "Events or rows that the follower read."),
    _counter("taskq_source_events_dropped_total", "Events that could not be counted.", "reason"),
    # Tasks now
    _gauge("taskq_tasks", "Stored tasks, each in exactly one state.", "queue", "state", overflow="sum"),
    _gauge(
        "taskq_tasks_by_priority",
        "The same tasks by priority level, for states that the backend splits.",
        "queue",
        "state",
        "priority",
        overflow="sum",
    ),
    _gauge("taskq_tasks_capped", "1 where the count stopped at the limit.", "queue", "state", overflow="max"),
    _gauge(
        "taskq_tasks_overdue",
        "The part of ready that the queue system should have moved by now.",
        "queue",
        overflow="sum",
    ),
    _gauge(
        "taskq_oldest_task_age_seconds",
        "Ready: since the oldest task could have run; running: the longest run; 0 when empty.",
        "queue",
        "state",
        overflow="max",
    ),
    _gauge("taskq_task_longest_run_seconds", "The longest run now, by task name.", "queue", "task", overflow="max"),
    _gauge("taskq_worker_longest_run_seconds", "The longest run now, by worker.", "worker", overflow="max"),
    # Queues
    _gauge("taskq_queue_consumers", "Workers that read the queue.", "queue", overflow="sum"),
    _gauge("taskq_queue_slots", "Slots of the workers that read the queue.", "queue", overflow="sum"),
    _gauge("taskq_queue_paused", "1 while the queue is paused.", "queue"),
    _gauge("taskq_queue_bytes", "Size of the queue in the broker.", "queue", overflow="sum"),
    _gauge("taskq_queue_objective_wait_seconds", "The configured objective: started within this time.", "queue"),
    _gauge("taskq_queue_objective_ratio", "The configured objective: for this part of the tasks.", "queue"),
    # What happened
    _counter("taskq_tasks_enqueued_total", "Tasks put into the ready queue.", "queue", "task", "priority"),
    _counter("taskq_tasks_received_total", "Tasks delivered to a worker.", "queue", "task"),
    _counter("taskq_tasks_started_total", "Attempts begun.", "queue", "task"),
    _counter("taskq_tasks_finished_total", "Tasks ended for good.", "queue", "task", "outcome"),
    _counter("taskq_tasks_retried_total", "Attempts that will be tried again.", "queue", "task"),
    _counter(
        "taskq_tasks_redelivered_total", "Tasks given out again because a worker or lease was lost.", "queue", "task"
    ),
    _counter(
        "taskq_task_exceptions_total", "Attempts ended by an exception, by class name.", "queue", "task", "exception"
    ),
    _histogram("taskq_task_run_duration_seconds", "One attempt, start to end.", "queue", "task", "outcome"),
    _histogram("taskq_task_wait_duration_seconds", "From runnable to started.", "queue"),
    # Workers
    _gauge("taskq_workers", "Workers by state.", "state"),
    _counter("taskq_workers_started_total", "Workers seen for the first time."),
    _counter("taskq_workers_lost_total", "Workers gone without a goodbye."),
    _gauge("taskq_worker_up", "1 while the worker is alive.", "worker"),
    _gauge("taskq_worker_info", "What the worker is.", "worker", "pool", "software", "software_version"),
    _gauge("taskq_worker_slots", "Tasks that the worker can run at once.", "worker", overflow="sum"),
    _gauge("taskq_worker_prefetch_limit", "Tasks that the worker may hold.", "worker", overflow="sum"),
    _gauge(
        "taskq_worker_tasks",
        "Tasks that the worker holds: running, reserved, scheduled.",
        "worker",
        "state",
        overflow="sum",
    ),
    _gauge("taskq_worker_last_heartbeat_timestamp_seconds", "When the worker was last heard of.", "worker"),
    _gauge("taskq_worker_start_timestamp_seconds", "When the worker started.", "worker"),
    _counter("taskq_worker_tasks_finished_total", "Tasks that the worker has ended.", "worker", "outcome"),
    _counter("taskq_worker_busy_seconds_total", "How long the worker has run tasks.", "worker"),
    _counter("taskq_worker_restarts_total", "Restarts of the worker.", "worker"),
    # Schedules
    _gauge("taskq_scheduler_up", "1 while the scheduler sends what is due.", "scheduler"),
    _gauge("taskq_scheduler_last_beat_timestamp_seconds", "When it was last heard of; 0: never.", "scheduler"),
    _gauge("taskq_scheduler_entries", "Entries of the schedule.", "scheduler"),
    _gauge("taskq_schedule_last_run_timestamp_seconds", "When an entry last ran.", "scheduler", "entry"),
    _gauge("taskq_schedule_next_run_timestamp_seconds", "When an entry is next due.", "scheduler", "entry"),
    # The broker
    _gauge("taskq_broker_roundtrip_seconds", "How long the broker takes to answer."),
    _gauge("taskq_broker_memory_bytes", "Memory that the broker uses."),
    _gauge("taskq_broker_memory_limit_bytes", "Memory that the broker may use; absent where no limit is set."),
    _gauge("taskq_broker_connections", "Connections to the broker, each in one state.", "state"),
    _gauge("taskq_broker_connections_limit", "Connections that the broker accepts."),
    _gauge(
        "taskq_broker_slow_statement_seconds",
        "Mean time of the slowest kind of statement that ended in about the last minute; 0 where none took 0.1 s.",
    ),
    _counter(
        "taskq_broker_commands_total",
        "Commands that the broker has run, by kind; of a database transactions and rows.",
        "command",
    ),
)

#: Every family by name, in the order of the page.
FAMILIES: Final[dict[str, Family]] = {family.name: family for family in _ALL}
