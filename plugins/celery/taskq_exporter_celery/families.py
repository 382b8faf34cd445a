"""The adapter's own metric families: what only Celery has."""

from __future__ import annotations

from collections.abc import Iterable

from taskq_exporter.api import Family, QueueStats, Sample

ETA_BEYOND_VISIBILITY = "taskq_celery_eta_beyond_visibility_timeout"
OLDEST_IS_BOUND = "taskq_celery_oldest_age_is_lower_bound"
OLDEST_UNACKED = "taskq_celery_unacked_oldest_age_seconds"
PREFETCH_SECONDS = "taskq_celery_worker_prefetch_seconds"
PREFETCHED_TASKS = "taskq_celery_worker_prefetched_tasks"
REDBEAT_LOCK = "taskq_celery_redbeat_lock_held"
UNACKED = "taskq_celery_unacked"
WORKER_PROCESSED = "taskq_celery_worker_processed_total"
WITHOUT_TASK_EVENTS = "taskq_celery_workers_without_task_events"
TASKS_PAST_ETA = "taskq_celery_tasks_past_eta"
FAMILIES = (
    Family(
        name=OLDEST_IS_BOUND,
        kind="gauge",
        help="1 where the oldest ready task may be older than taskq_oldest_task_age_seconds says: nothing told "
        "when it was sent.",
        labels=("queue",),
        overflow="max",
    ),
    Family(
        name=PREFETCHED_TASKS,
        kind="gauge",
        help="Tasks that a worker holds to run them now and has not begun, by name; only where compat needs it.",
        labels=("worker", "task"),
        overflow="sum",
    ),
    Family(
        name=PREFETCH_SECONDS,
        kind="gauge",
        help="How long the task that began last had waited at the worker, 0 once it ended; only where compat needs it.",
        labels=("worker", "task"),
        overflow="max",
    ),
    Family(
        name=TASKS_PAST_ETA,
        kind="gauge",
        help="Tasks that workers hold, more than 5 seconds past their ETA, and that have not started.",
        labels=("queue",),
        overflow="sum",
    ),
    Family(
        name=ETA_BEYOND_VISIBILITY,
        kind="gauge",
        help="Tasks that workers hold until an ETA beyond the visibility timeout: they are delivered more than once.",
        labels=("queue",),
        overflow="sum",
    ),
    Family(
        name=UNACKED,
        kind="gauge",
        help="Messages that workers hold and have not acknowledged, by RabbitMQ's word: reserved, waiting for their "
        "ETA, and running ones that acknowledge late.",
        labels=("queue",),
        overflow="sum",
    ),
    Family(
        name=OLDEST_UNACKED,
        kind="gauge",
        help="Age of the oldest delivery that is not acknowledged; 0 if there is none. "
        "Beyond the visibility timeout the message is delivered again.",
    ),
    Family(
        name=REDBEAT_LOCK,
        kind="gauge",
        help="1 while a redbeat holds its lock, without which none sends; 0 once it was seen and is gone.",
    ),
    Family(
        name=WORKER_PROCESSED,
        kind="counter",
        help="Tasks that a worker has begun since it started, by its own count: also those that it sends no events of.",
        labels=("worker",),
    ),
    Family(
        name=WITHOUT_TASK_EVENTS,
        kind="gauge",
        help="Workers that run tasks and send no task events, so that what they do is not counted: start them with -E.",
    ),
)


def bounds(queues: Iterable[QueueStats]) -> list[Sample]:
    """Of each queue whose oldest ready task is known, whether it may be older."""
    return [
        Sample(OLDEST_IS_BOUND, (q.name,), float(q.oldest_is_bound)) for q in queues if q.oldest_is_bound is not None
    ]
