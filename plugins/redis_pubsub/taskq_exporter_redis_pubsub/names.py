"""The allocator's keys and channels, and the adapter's own metric families.

Taken from the guide to its exporter, "Celery with a Redis pub/sub allocator".
"""

from __future__ import annotations

from typing import Final

from taskq_exporter.api import Family

__all__ = [
    "ACTIVE",
    "ALLOCATED",
    "ALLOCATIONS",
    "ALLOCATION_DURATION",
    "FAMILIES",
    "LATENCY",
    "MESSAGES",
    "PATTERNS",
    "PRIORITY",
    "PUBLISHED",
    "QUEUE",
    "REGISTERED",
    "TASKS",
    "WORKER",
]

#: Key of a queue's list.
QUEUE: Final = "queue:"
#: Key of the hash in which a worker registers.
REGISTERED: Final = "workers:"
#: A worker's channel; and with ACTIVE behind its name, the keys of the tasks that it runs.
WORKER: Final = "worker:"
ACTIVE: Final = ":active:"
#: Channels of a queue: for all tasks, and once more for those of a high priority.
TASKS: Final = "tasks:"
PRIORITY: Final = "tasks:priority:"
#: All channels, as patterns of PSUBSCRIBE.
PATTERNS: Final = (f"{TASKS}*", f"{WORKER}*")

#: Kinds of messages.
PUBLISHED: Final = "task_published"
ALLOCATED: Final = "task_allocated"

MESSAGES: Final = "taskq_redis_pubsub_messages_total"
LATENCY: Final = "taskq_redis_pubsub_latency_seconds"
ALLOCATIONS: Final = "taskq_redis_pubsub_allocations_total"
ALLOCATION_DURATION: Final = "taskq_redis_pubsub_allocation_duration_seconds"
FAMILIES: Final = (
    Family(
        name=MESSAGES,
        kind="counter",
        help="Messages on the allocator's channels. A task of high priority is a message on two of them.",
        labels=("channel", "kind"),
        overflow="sum",
    ),
    Family(
        name=LATENCY,
        kind="histogram",
        help="From the timestamp in a published task to when it came to a subscriber, the exporter.",
        labels=("channel",),
        overflow="sum",
        buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    ),
    Family(
        name=ALLOCATIONS,
        kind="counter",
        help="Tasks given to a worker on its channel.",
        labels=("queue", "worker", "method"),
        overflow="sum",
    ),
    Family(
        name=ALLOCATION_DURATION,
        kind="histogram",
        help="From the time of allocation in the message to when it came to a subscriber, the exporter.",
        labels=("queue", "method"),
        overflow="sum",
        buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1),
    ),
)
