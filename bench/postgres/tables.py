"""Jobs tables that differ in their history only, filled by SQL."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

#: As the options of a source name it.
Options = dict[str, Any]

QUEUES = 8
RUNNING = 50
TASKS = 20
WORKERS = 10

_JOBS = """
CREATE TABLE {jobs} (
    id bigint GENERATED ALWAYS AS IDENTITY,
    queue text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    priority smallint NOT NULL,
    attempts smallint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    run_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    locked_by text,
    payload text NOT NULL
)
"""
# one after the other over 30 days, the last one now, 5 s of waiting and 2 s of work each; one in 40 failed
_FINISHED = """
INSERT INTO {jobs} (queue, kind, state, priority, created_at, run_at, started_at, finished_at, payload)
SELECT 'queue-' || n % {queues}, 'shop.tasks.task_' || n % {tasks}, CASE n % 40 WHEN 0 THEN 'error' ELSE 'done' END,
    n / {queues} % 4, ended - interval '7 s', ended - interval '7 s', ended - interval '2 s', ended, {payload}
FROM (
    SELECT n, now() - interval '30 days' * (1 - n::float8 / {count}) AS ended FROM generate_series(1, {count}) AS n
) AS j
"""
# the oldest has waited for an hour
_READY = """
INSERT INTO {jobs} (queue, kind, state, priority, attempts, created_at, run_at, payload)
SELECT 'queue-' || n % {queues}, 'shop.tasks.task_' || n % {tasks}, 'queued', n / {queues} % 4, 0, due, due, {payload}
FROM (
    SELECT n, now() - interval '1 hour' * (1 - n::float8 / {count}) AS due FROM generate_series(0, {count} - 1) AS n
) AS j
"""
_RUNNING = """
INSERT INTO {jobs} (queue, kind, state, priority, created_at, run_at, started_at, locked_by, payload)
SELECT 'queue-' || n % {queues}, 'shop.tasks.task_' || n % {tasks}, 'active', n / {queues} % 4, now(), now(), now(),
    'worker-' || n % {workers}, {payload}
FROM generate_series(1, {running}) AS n
"""
_PAYLOAD = '\'{"order": \' || n || \', "mail": "customer-\' || n || \'@shop.example", "template": "confirmation"}\''
#: What the README of the adapter advises, and the primary key that every such table has.
_INDEXES = (
    "ALTER TABLE {jobs} ADD PRIMARY KEY (id)",
    "CREATE INDEX ON {jobs} (queue, priority, run_at) INCLUDE (created_at, attempts) WHERE state = 'queued'",
    "CREATE INDEX ON {jobs} (queue, started_at) WHERE state = 'active'",
    "CREATE INDEX ON {jobs} (finished_at) WHERE finished_at IS NOT NULL",
)
_WORKERS = """
CREATE TABLE workers AS
SELECT 'worker-' || n AS id, now() AS last_seen, 8 AS slots FROM generate_series(0, {workers} - 1) AS n
"""


def options(table: str) -> Options:
    """A source's options: every column that the adapter can use, and the workers."""
    columns = {"id": "id", "queue": "queue", "task": "kind", "state": "state", "priority": "priority"}
    columns |= {"scheduled_at": "run_at", "started_at": "started_at", "finished_at": "finished_at"}
    columns |= {"created_at": "created_at", "worker": "locked_by", "attempts": "attempts"}
    states = {"ready": ["queued"], "running": ["active"], "succeeded": ["done"], "failed": ["error"]}
    workers = {"name": "workers", "columns": {"id": "id", "heartbeat": "last_seen", "slots": "slots"}}
    return {"table": {"name": f"public.{table}", "columns": columns, "states": states}, "workers": workers}


class Tables:
    """Fills tables, through a connection of the application's own."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET maintenance_work_mem = '256MB'")
        self._run(_WORKERS)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def make(self, table: str, *, finished: int, ready: int) -> None:
        """A table with its indexes, its statistics and a vacuum behind it, as autovacuum leaves one."""
        with self._connection.transaction():  # where the table is new, nothing goes to the log of changes
            self._run(_JOBS, table)
            self._run(_FINISHED, table, finished)
            self._run(_READY, table, ready)
            self._run(_RUNNING, table)
        for index in _INDEXES:
            self._run(index, table)
        self._run("VACUUM (ANALYZE) {jobs}", table)

    def wait_more(self, table: str, count: int) -> None:
        """That many more jobs are ready."""
        self._run(_READY, table, count)
        self._run("VACUUM (ANALYZE) {jobs}", table)

    def finish(self, table: str, count: int) -> None:
        """That many more jobs have ended just now."""
        self._run(_FINISHED.replace("30 days", "1 second"), table, count)

    def execute(self, text: str) -> None:
        """Statements of an administrator's."""
        self._connection.execute(text)

    def _run(self, text: str, table: str = "", count: int = 0) -> None:
        numbers = {"count": count, "queues": QUEUES, "tasks": TASKS, "workers": WORKERS, "running": RUNNING}
        literals = {name: sql.Literal(number) for name, number in numbers.items()}
        self._connection.execute(
            sql.SQL(text).format(jobs=sql.Identifier(table), payload=sql.SQL(_PAYLOAD), **literals)
        )
