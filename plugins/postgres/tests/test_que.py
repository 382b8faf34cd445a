"""Preset Que: tables written by hand after its migrations, and advisory locks and updates as its workers do them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch

pytestmark = pytest.mark.newest

#: Que 2.4 (migration 7), without triggers and checks.
TABLES = """
CREATE TABLE que_jobs (
    priority smallint NOT NULL DEFAULT 100, run_at timestamptz NOT NULL DEFAULT now(), id bigserial PRIMARY KEY,
    job_class text NOT NULL, error_count integer NOT NULL DEFAULT 0, last_error_message text,
    queue text NOT NULL DEFAULT 'default', last_error_backtrace text, finished_at timestamptz, expired_at timestamptz,
    args jsonb NOT NULL DEFAULT '[]', data jsonb NOT NULL DEFAULT '{}', job_schema_version integer NOT NULL DEFAULT 2,
    kwargs jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX que_poll_idx ON que_jobs (job_schema_version, queue, priority, run_at, id)
    WHERE finished_at IS NULL AND expired_at IS NULL;
CREATE UNLOGGED TABLE que_lockers (
    pid integer PRIMARY KEY, worker_count integer NOT NULL, worker_priorities integer[] NOT NULL,
    ruby_pid integer NOT NULL, ruby_hostname text NOT NULL, queues text[] NOT NULL, listening boolean NOT NULL,
    job_schema_version integer DEFAULT 1
);
"""
FILL = """
ALTER SEQUENCE que_jobs_id_seq RESTART 4294967290;  -- a lock has its number in two halves
INSERT INTO que_jobs (queue, job_class, priority, run_at, error_count, finished_at, expired_at, args)
SELECT queue, job, priority, now() + wait, errors, finished, expired, '["secret of a user"]'
FROM (VALUES
    ('emails', 'Mail', 100, interval '-1 min', 0, 42, NULL::timestamptz, NULL::timestamptz),
    ('emails', 'Mail', 1, '-1 s', 0, 1, NULL, NULL), ('emails', 'Mail', 100, '1 h', 0, 2, NULL, NULL),
    ('emails', 'Mail', 100, '1 h', 2, 1, NULL, NULL), ('images', 'Resize', 100, '0 s', 3, 3, NULL, NULL),
    ('images', 'Resize', 100, '-1 h', 15, 2, NULL, now()), ('images', 'Resize', 100, '-1 h', 0, 5, now(), NULL),
    ('oneoff', 'Erase', 100, '0 s', 0, 2, NULL, NULL)
) AS v (queue, job, priority, wait, errors, n, finished, expired), generate_series(1, n);
"""
#: Que::Locker: who it is, and the jobs that it holds.
REGISTER = """
INSERT INTO que_lockers (pid, worker_count, worker_priorities, ruby_pid, ruby_hostname, queues, listening)
VALUES (pg_backend_pid(), 6, '{10, 30}', %s, 'web', '{emails, quiet}', true)
"""
FIND = """
SELECT id FROM que_jobs WHERE queue = %s AND finished_at IS NULL AND expired_at IS NULL AND run_at <= now()
ORDER BY priority, run_at, id
"""
#: What a job does when it is finished, given up, or destroyed (the default).
ENDS = {
    "emails": "UPDATE que_jobs SET finished_at = now() WHERE id = %s",
    "images": "UPDATE que_jobs SET error_count = error_count + 1, expired_at = now() WHERE id = %s",
    "oneoff": "DELETE FROM que_jobs WHERE id = %s",
}


def lock(connection: psycopg.Connection[Any], job: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (job,)).fetchone()
    return bool(row and row[0])


def work(url: str) -> None:
    """Four lockers side by side."""

    def one(pid: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(REGISTER, (pid,))
            for queue, end in ENDS.items():
                for (job,) in connection.execute(FIND, (queue,)).fetchall():
                    if lock(connection, job):
                        held = "SELECT FROM que_jobs WHERE id = %s AND finished_at IS NULL AND expired_at IS NULL"
                        if connection.execute(held, (job,)).fetchall():
                            connection.execute(end, (job,))  # type: ignore[arg-type]
                        connection.execute("SELECT pg_advisory_unlock(%s)", (job,))
            connection.execute("DELETE FROM que_lockers WHERE pid = pg_backend_pid()")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server, psycopg.connect(server.url, autocommit=True) as holder:
        holder.execute(TABLES)
        holder.execute(FILL)
        holder.execute(REGISTER, (7,))
        for (job,) in holder.execute(FIND, ("emails",)).fetchmany(3):
            assert lock(holder, job)
        # somebody else's lock with the number of a job, and a worker whose connection is gone
        holder.execute("INSERT INTO que_lockers VALUES (0, 5, '{10}', 8, 'web', '{emails}', true)")
        with psycopg.connect(server.url, autocommit=True) as other:
            for (job,) in holder.execute(FIND, ("images",)).fetchmany(1):
                assert lock(other, job)
            yield World(
                url=server.url,
                options={"preset": "que", "poll_interval": "100ms"},
                tasks={
                    "emails": {"ready": 40, "scheduled": 2, "retry": 1, "running": 3},
                    "images": {"ready": 3, "failed": 2},
                    "oneoff": {"ready": 2},
                    "quiet": {"ready": 0},
                },
                series={
                    'taskq_tasks_by_priority{queue="emails",state="ready",priority="100"}': 40,
                    'taskq_queue_consumers{queue="emails"}': 1,
                    'taskq_worker_up{worker="web:7"}': 1,
                    'taskq_worker_up{worker="web:8"}': 0,
                    'taskq_worker_slots{worker="web:7"}': 6,
                    'taskq_worker_tasks{worker="web:7",state="running"}': 3,
                },
                work=lambda: work(server.url),
                finished={("emails", "Mail", "succeeded"): 40, ("images", "Resize", "failed"): 2},
            )


async def test_ages_are_by_the_server_s_clock(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    assert 60 <= (page.value("taskq_oldest_task_age_seconds", queue="emails", state="ready") or 0) < 120
    assert (page.value("taskq_oldest_task_age_seconds", queue="images", state="ready") or 0) < 60
    assert not page.values("taskq_oldest_task_age_seconds", state="running")


async def test_version_0_is_named_by_what_it_lacks(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute(
            "ALTER TABLE que_jobs DROP finished_at, DROP expired_at; ALTER TABLE que_jobs RENAME id TO job_id"
        )
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "que"}) as watched:
        assert (await watched.page()).value("taskq_source_up") == 0
        assert "has no column id, finished_at, expired_at; que is known in 1 and 2" in str(watched.runner.error)


async def test_what_is_deleted_is_no_zero(postgres_dsn: str) -> None:
    """A (queue, task) that was seen begins at 0, but for outcomes whose jobs are not always kept."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO que_jobs (queue, job_class) VALUES ('images', 'Resize'), ('oneoff', 'Erase')")
    source = {"adapter": "postgres", "url": postgres_dsn, "preset": "que", "poll_interval": "100ms"}
    async with watch(source, follow=True) as watched:
        await watched.following()
        await asyncio.to_thread(work, postgres_dsn)
        await watched.until(lambda page: page.total("taskq_tasks_finished_total") > 0, "a job ended")
        page = await watched.page()
    assert page.by("taskq_tasks_finished_total", "queue", "outcome") == {("images", "failed"): 1}


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
