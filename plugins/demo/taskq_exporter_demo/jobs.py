"""The demo's jobs table in Postgres, as many applications write one themselves, with its worker and its producer.

Run as `python -m taskq_exporter_demo.jobs create|work|produce` with the database's URL in TASKQ_DEMO_DATABASE_URL.
"""

from __future__ import annotations

import os
import random
import sys
import time

import psycopg
from psycopg.rows import dict_row

from taskq_exporter_demo.pace import beats

BEAT_SECONDS = 5.0

CREATE = """
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    priority smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    run_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    locked_by text
);
CREATE INDEX jobs_queued ON jobs (queue, priority DESC, run_at) WHERE state = 'queued';
CREATE INDEX jobs_active ON jobs (queue, started_at) WHERE state = 'active';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE workers (id text PRIMARY KEY, last_seen timestamptz NOT NULL DEFAULT now());
"""

TAKE = """
UPDATE jobs SET state = 'active', started_at = clock_timestamp(), locked_by = %s
WHERE id = (
    SELECT id FROM jobs WHERE state = 'queued' AND run_at <= now()
    ORDER BY priority DESC, run_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, kind
"""
FINISH = "UPDATE jobs SET state = %s, finished_at = clock_timestamp() WHERE id = %s"
BEAT = "INSERT INTO workers (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET last_seen = now()"
ADD = "INSERT INTO jobs (queue, kind, priority, run_at) VALUES (%s, %s, %s, now() + make_interval(secs => %s))"

SECONDS = {"invoice": (0.05, 0.2), "reminder": (0.02, 0.1), "export": (1.0, 5.0)}


def create(url: str) -> None:
    """Create the tables."""
    with psycopg.connect(url) as connection:
        connection.execute(CREATE)


def work(url: str) -> None:
    """Take jobs one by one for ever; one invoice in nine fails."""
    name, beat = f"worker-{os.getpid()}", 0.0
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        while True:
            if time.monotonic() - beat >= BEAT_SECONDS:
                connection.execute(BEAT, [name])
                beat = time.monotonic()
            job = connection.execute(TAKE, [name]).fetchone()
            if job is None:
                time.sleep(0.2)
                continue
            time.sleep(random.uniform(*SECONDS[job["kind"]]))  # noqa: S311
            failed = job["kind"] == "invoice" and job["id"] % 9 == 1
            connection.execute(FINISH, ["error" if failed else "done", job["id"]])


def produce(url: str) -> None:
    """Add jobs for ever."""
    with psycopg.connect(url, autocommit=True) as connection:
        for number in beats(per_second=3):
            connection.execute(ADD, ["invoices", "invoice", 0, 0])
            if number % 8 == 0:
                connection.execute(ADD, ["invoices", "reminder", 5, 25])
            if number % 12 == 0:
                connection.execute(ADD, ["exports", "export", -5, 0])


if __name__ == "__main__":
    {"create": create, "work": work, "produce": produce}[sys.argv[1]](os.environ["TASKQ_DEMO_DATABASE_URL"])
