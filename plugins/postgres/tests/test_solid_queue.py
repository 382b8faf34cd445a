"""Preset Solid Queue: tables written by hand after its schema, and what its processes write, by hand too."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch

pytestmark = pytest.mark.newest

#: Solid Queue 1.5, without semaphores and batches.
TABLES = """
CREATE TABLE solid_queue_jobs (
    id bigserial PRIMARY KEY, queue_name varchar NOT NULL, class_name varchar NOT NULL, arguments text,
    priority integer NOT NULL DEFAULT 0, active_job_id varchar, scheduled_at timestamp(6), finished_at timestamp(6),
    concurrency_key varchar, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE INDEX index_solid_queue_jobs_on_finished_at ON solid_queue_jobs (finished_at);
CREATE INDEX index_solid_queue_jobs_for_filtering ON solid_queue_jobs (queue_name, finished_at);
CREATE TABLE solid_queue_ready_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE REFERENCES solid_queue_jobs ON DELETE CASCADE,
    queue_name varchar NOT NULL, priority integer NOT NULL DEFAULT 0, created_at timestamp(6) NOT NULL
);
CREATE INDEX index_solid_queue_poll_all ON solid_queue_ready_executions (priority, job_id);
CREATE INDEX index_solid_queue_poll_by_queue ON solid_queue_ready_executions (queue_name, priority, job_id);
CREATE TABLE solid_queue_scheduled_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE REFERENCES solid_queue_jobs ON DELETE CASCADE,
    queue_name varchar NOT NULL, priority integer NOT NULL DEFAULT 0, scheduled_at timestamp(6) NOT NULL,
    created_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_blocked_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE REFERENCES solid_queue_jobs ON DELETE CASCADE,
    queue_name varchar NOT NULL, priority integer NOT NULL DEFAULT 0, concurrency_key varchar NOT NULL,
    expires_at timestamp(6) NOT NULL, created_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_claimed_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE REFERENCES solid_queue_jobs ON DELETE CASCADE,
    process_id bigint, created_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_failed_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE REFERENCES solid_queue_jobs ON DELETE CASCADE,
    error text, created_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_pauses (
    id bigserial PRIMARY KEY, queue_name varchar NOT NULL UNIQUE, created_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_processes (
    id bigserial PRIMARY KEY, kind varchar NOT NULL, last_heartbeat_at timestamp(6) NOT NULL, supervisor_id bigint,
    pid integer NOT NULL, hostname varchar, metadata text, created_at timestamp(6) NOT NULL, name varchar NOT NULL
);
CREATE TABLE solid_queue_recurring_tasks (
    id bigserial PRIMARY KEY, key varchar NOT NULL UNIQUE, schedule varchar NOT NULL, command varchar(2048),
    class_name varchar, arguments text, queue_name varchar, priority integer DEFAULT 0,
    static boolean NOT NULL DEFAULT true, description text, created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL
);
CREATE TABLE solid_queue_recurring_executions (
    id bigserial PRIMARY KEY, job_id bigint NOT NULL UNIQUE, task_key varchar NOT NULL, run_at timestamp(6) NOT NULL,
    created_at timestamp(6) NOT NULL, UNIQUE (task_key, run_at)
);
SET TimeZone = 'UTC';
CREATE FUNCTION enqueue(queue text, job text, n integer, at timestamp) RETURNS SETOF bigint LANGUAGE sql AS $$
    INSERT INTO solid_queue_jobs (queue_name, class_name, arguments, scheduled_at, created_at, updated_at)
    SELECT queue, job, 'secret of a user', at, now(), now() FROM generate_series(1, n) RETURNING id
$$;
"""
FILL = """
INSERT INTO solid_queue_processes (kind, name, pid, hostname, metadata, last_heartbeat_at, created_at) VALUES
    ('Worker', 'worker-1', 7, 'web', '{"polling_interval":0.1,"queues":"*","thread_pool_size":3}',
        now() + interval '1 h', now()),
    ('Worker', 'worker-2', 8, 'web', '{"thread_pool_size":5}', now() - interval '6 min', now()),
    ('Scheduler', 'scheduler-1', 9, 'web', '{"recurring_schedule":["nightly"]}', now() + interval '1 h', now());
INSERT INTO solid_queue_ready_executions (job_id, queue_name, priority, created_at)
SELECT id, 'emails', 0, now() - interval '1 min' FROM enqueue('emails', 'Mail', 40, now()::timestamp) AS id;
INSERT INTO solid_queue_ready_executions (job_id, queue_name, priority, created_at)
SELECT id, 'images', 7, now() FROM enqueue('images', 'Resize', 3, now()::timestamp) AS id;
INSERT INTO solid_queue_scheduled_executions (job_id, queue_name, scheduled_at, created_at)
SELECT id, 'emails', now() + interval '1 h', now() FROM enqueue('emails', 'Mail', 2, now()::timestamp) AS id;
INSERT INTO solid_queue_scheduled_executions (job_id, queue_name, scheduled_at, created_at)
SELECT id, 'due', now() - interval '1 min', now() FROM enqueue('due', 'Mail', 1, now()::timestamp) AS id;
INSERT INTO solid_queue_blocked_executions (job_id, queue_name, concurrency_key, expires_at, created_at)
SELECT id, 'emails', 'k', now(), now() FROM enqueue('emails', 'Mail', 1, now()::timestamp) AS id;
INSERT INTO solid_queue_claimed_executions (job_id, process_id, created_at)
SELECT id, 1, now() - interval '1 min' FROM enqueue('images', 'Resize', 1, now()::timestamp) AS id;
INSERT INTO solid_queue_failed_executions (job_id, error, created_at)
SELECT id, 'secret', now() FROM enqueue('images', 'Resize', 2, now()::timestamp) AS id;
UPDATE solid_queue_jobs SET finished_at = now()
WHERE id IN (SELECT * FROM enqueue('quiet', 'Mail', 5, now()::timestamp));
INSERT INTO solid_queue_pauses (queue_name, created_at) VALUES ('due', now());
INSERT INTO solid_queue_recurring_tasks (key, schedule, created_at, updated_at) VALUES
    ('nightly', '0 3 * * *', now(), now()), ('never', '0 0 30 2 *', now(), now());
INSERT INTO solid_queue_recurring_executions (job_id, task_key, run_at, created_at) VALUES
    (1, 'nightly', to_timestamp(1700000000), now()), (2, 'nightly', to_timestamp(1700086400), now());
"""
#: ReadyExecution.claim, and what ClaimedExecution does at the end: the job's row, and its own.
TAKE = "SELECT job_id FROM solid_queue_ready_executions WHERE queue_name = %s LIMIT 2 FOR UPDATE SKIP LOCKED"
CLAIM = "INSERT INTO solid_queue_claimed_executions (job_id, process_id, created_at) VALUES (%s, 1, now())"
LEAVE = "DELETE FROM solid_queue_ready_executions WHERE job_id = %s"
FINISHED = "UPDATE solid_queue_jobs SET finished_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = %s"
FAILED = "INSERT INTO solid_queue_failed_executions (job_id, error, created_at) VALUES (%s, 'secret', now())"
END = "DELETE FROM solid_queue_claimed_executions WHERE job_id = %s"


def work(url: str) -> None:
    """Four workers side by side: jobs of emails succeed, jobs of images fail."""

    def one(_: int) -> None:
        with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as connection:
            for queue, end in (("emails", FINISHED), ("images", FAILED)):
                while True:
                    with connection.transaction():
                        taken = connection.execute(TAKE, (queue,)).fetchall()
                        for job in taken:
                            connection.execute(CLAIM, job)
                            connection.execute(LEAVE, job)
                    if not taken:
                        break
                    for job in taken:
                        with connection.transaction():
                            connection.execute(end, job)
                            connection.execute(END, job)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(TABLES)
            connection.execute(FILL)
        yield World(
            url=server.url,
            options={"preset": "solid-queue", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 40, "scheduled": 2, "blocked": 1},
                "images": {"ready": 3, "running": 1, "failed": 2},
                "due": {"ready": 1},
                "quiet": {"ready": 0},
            },
            series={
                'taskq_tasks_overdue{queue="due"}': 1,
                'taskq_tasks_by_priority{queue="images",state="ready",priority="7"}': 3,
                'taskq_queue_paused{queue="due"}': 1,
                'taskq_queue_paused{queue="quiet"}': 0,
                'taskq_worker_up{worker="worker-1"}': 1,
                'taskq_worker_up{worker="worker-2"}': 0,
                'taskq_worker_slots{worker="worker-1"}': 3,
                'taskq_worker_tasks{worker="worker-1",state="running"}': 1,
                'taskq_scheduler_up{scheduler="recurring"}': 1,
                'taskq_scheduler_entries{scheduler="recurring"}': 2,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="recurring",entry="nightly"}': 1700086400,
            },
            work=lambda: work(server.url),
            finished={("emails", "Mail", "succeeded"): 40, ("images", "Resize", "failed"): 3},
        )


async def test_ages_are_by_the_server_s_clock(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    for queue, state in (("emails", "ready"), ("due", "ready"), ("images", "running")):
        assert 60 <= (page.value("taskq_oldest_task_age_seconds", queue=queue, state=state) or 0) < 120
    assert (page.value("taskq_oldest_task_age_seconds", queue="images", state="ready") or 0) < 60


async def test_a_version_that_is_not_known_is_named_by_what_it_lacks(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("DROP TABLE solid_queue_recurring_tasks; ALTER TABLE solid_queue_processes DROP name")
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "solid-queue"}) as watched:
        assert (await watched.page()).value("taskq_source_up") == 0
        assert 'there is no table "public"."solid_queue_recurring_tasks"' in str(watched.runner.error)
        assert '"solid_queue_processes" has no column name' in str(watched.runner.error)


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
