"""The statements over TaskFlow's tables, each with a part of the rows that does not grow with history.

`tasks` has indexes on (status, priority), scheduled_at and created_at: each status is a SELECT of its own, a literal.
Times are without time zone, in that of TaskFlow's sessions. `{now}` is the server's clock in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql
from taskq_exporter_sql import Horizon, TableName, XidCursor

from taskq_exporter_taskflow.names import LIVE_CAMPAIGNS, OUTCOMES, QUEUES
from taskq_exporter_taskflow.options import TaskflowOptions

__all__ = ["MAX_ROWS", "READS", "TABLES", "ended", "index_advice", "queries"]

#: Columns that are read, by table: the GRANTs. No arguments, no results, no addresses.
READS: Final[dict[str, Sequence[str]]] = {
    "tasks": (
        "task_id",
        "task_name",
        "priority",
        "status",
        "next_retry_at",
        "depends_on",
        "scheduled_at",
        "cron_expression",
        "started_at",
        "completed_at",
        "created_at",
        "updated_at",
        "xmin",
    ),
    "workers": ("worker_id", "status", "capacity", "current_load", "last_heartbeat"),
    "campaigns": ("status",),
}
#: Rows that one statement may return.
MAX_ROWS = 1000

#: A dependency that has not completed. TaskFlow leaves depends_on as it is when they have.
_BLOCKED = """
EXISTS (
    SELECT FROM json_array_elements_text(
        CASE json_typeof(t.depends_on) WHEN 'array' THEN t.depends_on ELSE '[]'::json END
    ) AS d (task_id)
    WHERE NOT EXISTS (SELECT FROM {tasks} AS p WHERE p.task_id = d.task_id AND p.status = 'COMPLETED')
)
"""
#: Rows (queue, status, what, n, seconds since the oldest could have run). What is due and not moved is `overdue`: the
#: scheduler's own condition. `listed` should stand in the queue's list, since its row was last written.
_WAITING = """
SELECT {queue}, status, what, count(*), extract(epoch FROM {now} - min(since))::float8
FROM (
    (SELECT t.priority, t.status, CASE WHEN t.scheduled_at > {now} THEN 'scheduled' WHEN t.scheduled_at <= {now}
            THEN 'overdue' WHEN {blocked} THEN 'blocked' ELSE 'listed' END AS what,
        coalesce(t.scheduled_at, t.updated_at) AS since
     FROM {tasks} AS t WHERE t.status = 'PENDING' LIMIT {limit})
    UNION ALL
    (SELECT t.priority, t.status, 'listed', t.updated_at FROM {tasks} AS t WHERE t.status = 'QUEUED' LIMIT {limit})
    UNION ALL
    (SELECT t.priority, t.status, CASE WHEN t.scheduled_at <= {now} THEN 'overdue' ELSE 'scheduled' END, t.scheduled_at
     FROM {tasks} AS t WHERE t.status = 'SCHEDULED' LIMIT {limit})
    UNION ALL
    (SELECT t.priority, t.status, CASE WHEN t.next_retry_at <= {now} THEN 'overdue' ELSE 'retry' END, t.next_retry_at
     FROM {tasks} AS t WHERE t.status = 'RETRYING' LIMIT {limit})
) AS w GROUP BY 1, 2, 3
"""
_RUNNING = """
SELECT {queue}, left(task_name, 256), count(*), extract(epoch FROM {now} - min(started_at))::float8
FROM {tasks} WHERE status = 'RUNNING' GROUP BY 1, 2 LIMIT {rows}
"""
_WORKERS = """
SELECT worker_id::text, upper(status), capacity, current_load,
    extract(epoch FROM last_heartbeat AT TIME ZONE {zone})::float8,
    last_heartbeat > {now} - make_interval(secs => {offline})
FROM {workers} WHERE last_heartbeat > {now} - make_interval(secs => {forget})
ORDER BY last_heartbeat DESC LIMIT {rows}
"""
_SCHEDULES = """
SELECT left(task_name, 256), left(cron_expression, 100),
    extract(epoch FROM min(scheduled_at) AT TIME ZONE {zone})::float8
FROM (SELECT task_name, cron_expression, scheduled_at FROM {tasks} WHERE status = 'PENDING' LIMIT {limit}) AS p
WHERE cron_expression IS NOT NULL AND scheduled_at IS NOT NULL GROUP BY 1, 2 LIMIT {rows}
"""
_CAMPAIGNS = "SELECT {status}::text, (SELECT count(*) FROM {campaigns} WHERE status = {status})"
_ENDED = """
SELECT {outcome} AS outcome, {queue} AS queue, left(task_name, 256) AS task,
    CASE WHEN status = 'COMPLETED' THEN greatest(extract(epoch FROM completed_at - started_at)::float8, 0) END
        AS run_seconds, NULL::float8 AS wait_seconds
FROM {tasks} AS t WHERE {recent} AND {window} AND {is_over}
"""
#: The table of each statement of queries().
TABLES: Final = {
    "waiting": "tasks",
    "running": "tasks",
    "schedules": "tasks",
    "workers": "workers",
    "campaigns": "campaigns",
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the statements are made of."""

    options: TaskflowOptions

    def table(self, name: str) -> sql.Composable:
        return TableName(self.options.db_schema, name).identifier

    @property
    def zone(self) -> sql.Composable:
        return sql.Literal(self.options.naive_timezone)

    @property
    def now(self) -> sql.Composable:
        return sql.SQL("(now() AT TIME ZONE {})").format(self.zone)

    @property
    def queue(self) -> sql.Composable:
        words = [
            sql.SQL("WHEN priority >= {} THEN {}").format(sql.Literal(lowest), sql.Literal(queue))
            for queue, lowest in list(QUEUES.items())[:-1]
        ]
        return sql.SQL("CASE {} ELSE {} END").format(sql.SQL(" ").join(words), sql.Literal(list(QUEUES)[-1]))


def queries(options: TaskflowOptions, *, worker_ttl: float) -> dict[str, sql.Composable]:
    """What a collect asks, by name."""
    parts = _Parts(options)
    tasks = parts.table("tasks")
    values = {
        "tasks": tasks,
        "workers": parts.table("workers"),
        "blocked": sql.SQL(_BLOCKED).format(tasks=tasks),
        "queue": parts.queue,
        "now": parts.now,
        "zone": parts.zone,
        "limit": sql.Literal(options.max_count + 1),
        "rows": sql.Literal(MAX_ROWS + 1),
        "offline": sql.Literal(options.offline_after),
        "forget": sql.Literal(max(worker_ttl, options.offline_after)),
    }
    texts = {"waiting": _WAITING, "running": _RUNNING, "workers": _WORKERS, "schedules": _SCHEDULES}
    asked: dict[str, sql.Composable] = {name: sql.SQL(text).format(**values) for name, text in texts.items()}
    campaigns = (
        sql.SQL(_CAMPAIGNS).format(status=sql.Literal(status), campaigns=parts.table("campaigns"))
        for status in LIVE_CAMPAIGNS
    )
    asked["campaigns"] = sql.SQL(" UNION ALL ").join(campaigns)
    return asked


def ended(options: TaskflowOptions, cursor: XidCursor, horizon: Horizon, *, by_update: bool) -> sql.Composable:
    """Tasks that ended in the cursor's window, as finished_totals() reads them.

    Args:
        options: The source's.
        cursor: Where the follower stands.
        horizon: Up to which transaction.
        by_update: Whether an index on updated_at serves; else those are found that were created lately.
    """
    parts = _Parts(options)
    since = cursor.since - options.overlap - (0.0 if options.naive_timezone == "UTC" else 3600.0)  # summer ends
    moment = sql.SQL("(to_timestamp({}) AT TIME ZONE {})").format(
        sql.Literal(since if by_update else since - options.lookback), parts.zone
    )
    words = [
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(word), sql.Literal(outcome.value))
        for word, outcome in OUTCOMES.items()
    ]
    listed = sql.SQL(", ").join(map(sql.Literal, OUTCOMES))
    return sql.SQL(_ENDED).format(
        outcome=sql.SQL("CASE status {} END").format(sql.SQL(" ").join(words)),
        queue=parts.queue,
        tasks=parts.table("tasks"),
        recent=sql.SQL("t.updated_at > {}" if by_update else "t.created_at > {}").format(moment),
        window=cursor.window(horizon, sql.SQL("t.xmin")),
        # not the column itself: through the index on it the server would read all that ever ended
        is_over=sql.SQL("(status || '') IN ({})").format(listed),
    )


def index_advice(options: TaskflowOptions, name: str) -> str:
    """The index that makes a statement cheap; TaskFlow's own tables have all but the one on updated_at."""
    columns = {
        "workers": ("workers", "last_heartbeat"),
        "campaigns": ("campaigns", "status"),
        "ended": ("tasks", "updated_at"),
    }
    table, listed = columns.get(name, ("tasks", "status, priority"))
    return f"CREATE INDEX CONCURRENTLY ON {TableName(options.db_schema, table)} ({listed});"
