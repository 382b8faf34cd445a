"""What TaskFlow calls things: its lists, keys and status words, and what they are in the exporter's terms."""

from __future__ import annotations

from typing import Final

from taskq_exporter.api import Family, Outcome, WorkerState

__all__ = [
    "CAMPAIGNS",
    "DEAD_LETTERS",
    "FAMILIES",
    "LIVE_CAMPAIGNS",
    "OUTCOMES",
    "QUEUES",
    "REDIS_COMMANDS",
    "REDIS_CONNECTIONS",
    "SCHEDULED_ENTRIES",
    "WAITING_ROWS",
    "WORKER_STATES",
]

#: The lists queue:high, queue:medium and queue:low, and the lowest priority of each: a task has 1 to 10, 10 first.
QUEUES: Final = {"high": 8, "medium": 4, "low": 1}
#: How a row in `tasks` says that it ended.
OUTCOMES: Final = {
    "COMPLETED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "TIMEOUT": Outcome.TIMED_OUT,
    "CANCELLED": Outcome.CANCELLED,
}
#: ACTIVE, IDLE and BUSY say no more than that it takes tasks: what it holds is in current_load.
WORKER_STATES: Final = {
    "ACTIVE": WorkerState.IDLE,
    "IDLE": WorkerState.IDLE,
    "BUSY": WorkerState.BUSY,
    "PAUSED": WorkerState.PAUSED,
    "DRAINING": WorkerState.DRAINING,
    "OFFLINE": WorkerState.OFFLINE,
    "DEAD": WorkerState.OFFLINE,
}
#: Statuses of campaigns that are not over.
LIVE_CAMPAIGNS: Final = ("DRAFT", "SCHEDULED", "RUNNING", "PAUSED")

WAITING_ROWS: Final = "taskq_taskflow_waiting_rows"
SCHEDULED_ENTRIES: Final = "taskq_taskflow_scheduled_entries"
DEAD_LETTERS: Final = "taskq_taskflow_dead_letters"
CAMPAIGNS: Final = "taskq_taskflow_campaigns"
REDIS_CONNECTIONS: Final = "taskq_taskflow_redis_connections"
REDIS_COMMANDS: Final = "taskq_taskflow_redis_commands_total"
FAMILIES: Final = (
    Family(
        name=WAITING_ROWS,
        kind="gauge",
        help="Rows in the database that should have an entry in the queue's list: PENDING or QUEUED, neither scheduled "
        "nor blocked. More of them than entries are tasks that got lost on the way to Redis.",
        labels=("queue",),
        overflow="sum",
    ),
    Family(name=SCHEDULED_ENTRIES, kind="gauge", help="Entries of the sorted set tasks:scheduled."),
    Family(
        name=DEAD_LETTERS,
        kind="gauge",
        help="Tasks in each of the two piles of dead letters: the sorted set tasks:dlq, the list dead_letter_queue.",
        labels=("pile",),
    ),
    Family(name=CAMPAIGNS, kind="gauge", help="Campaigns that are not over, by their status.", labels=("status",)),
    Family(name=REDIS_CONNECTIONS, kind="gauge", help="Connections to Redis, each in one state.", labels=("state",)),
    Family(name=REDIS_COMMANDS, kind="counter", help="Commands that Redis has run, by kind.", labels=("command",)),
)
