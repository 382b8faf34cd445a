"""Preset GoodJob: tables written by hand after its migrations, and updates as its processes do them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import connect, diagnose
from taskq_exporter_postgres.follow import step

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch

pytestmark = pytest.mark.newest

#: GoodJob 4.19, without what concerns batches, labels and settings.
TABLES = """
CREATE TABLE good_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), queue_name text, priority integer, serialized_params jsonb,
    scheduled_at timestamp, performed_at timestamp, finished_at timestamp, error text,
    created_at timestamp NOT NULL, updated_at timestamp NOT NULL, active_job_id uuid, concurrency_key text,
    cron_key text, cron_at timestamp, executions_count integer, job_class text, error_event smallint,
    locked_by_id uuid, locked_at timestamp, lock_type smallint
);
CREATE INDEX index_good_jobs_jobs_on_finished_at_only ON good_jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX index_good_jobs_on_scheduled_at ON good_jobs (scheduled_at) WHERE finished_at IS NULL;
CREATE INDEX index_good_job_jobs_for_candidate_lookup ON good_jobs (priority, created_at) WHERE finished_at IS NULL;
CREATE INDEX index_good_jobs_on_locked_by_id ON good_jobs (locked_by_id) WHERE locked_by_id IS NOT NULL;
CREATE UNIQUE INDEX index_good_jobs_on_cron_key_and_cron_at_cond ON good_jobs (cron_key, cron_at)
    WHERE cron_key IS NOT NULL;
CREATE TABLE good_job_processes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
    state jsonb, lock_type smallint
);
"""
FILL = """
INSERT INTO good_job_processes (id, created_at, updated_at, state) VALUES
    ('00000000-0000-0000-0000-000000000001', timezone('UTC', now()), timezone('UTC', now()) + interval '1 h',
        '{"hostname": "web", "pid": 7, "schedulers": [{"max_threads": 5}, {"max_threads": 1}]}'),
    ('00000000-0000-0000-0000-000000000002', timezone('UTC', now()), timezone('UTC', now()) - interval '6 min',
        '{"hostname": "web", "pid": 8, "schedulers": ["GoodJob::Scheduler(queues=* max_threads=5)"]}');
INSERT INTO good_jobs (queue_name, job_class, priority, executions_count, scheduled_at, performed_at, locked_by_id,
    created_at, updated_at, serialized_params)
SELECT queue, job, priority, tried, at, CASE WHEN tried > 0 AND wait < '0 s' THEN at END, process::uuid,
    at - interval '1 min', at, '{"arguments": ["secret of a user"]}'
FROM (VALUES
    ('emails', 'Mail', 0, NULL::integer, 40, interval '-1 min', NULL), ('emails', 'Mail', 5, NULL, 1, '-1 s', NULL),
    ('emails', 'Mail', 0, NULL, 2, '1 h', NULL), ('emails', 'Mail', 0, 1, 1, '1 h', NULL),
    ('images', 'Resize', 0, 1, 1, '-1 min', '00000000-0000-0000-0000-000000000001'),
    ('images', 'Resize', 0, NULL, 1, '0 s', '00000000-0000-0000-0000-000000000001'),
    ('images', 'Resize', 0, 1, 1, '-2 min', NULL), ('images', 'Resize', 0, NULL, 3, '0 s', NULL)
) AS v (queue, job, priority, tried, n, wait, process), generate_series(1, n),
    LATERAL (SELECT timezone('UTC', now()) + wait AS at) AS t;
INSERT INTO good_jobs (queue_name, job_class, cron_key, cron_at, scheduled_at, performed_at, finished_at,
    created_at, updated_at)
SELECT 'cron', 'Report', key, at, at, at, at, at, at
FROM (VALUES ('daily', 1700000000), ('daily', 1700086400), ('hourly', 1700003600)) AS v (key, unix),
    LATERAL (SELECT timezone('UTC', to_timestamp(unix)) AS at) AS t;
"""
#: GoodJob::Job.perform: what it writes before and after a job, and before one that is tried again.
TAKE = """
UPDATE good_jobs SET performed_at = timezone('UTC', clock_timestamp()), locked_at = timezone('UTC', clock_timestamp()),
    executions_count = coalesce(executions_count, 0) + 1, locked_by_id = '00000000-0000-0000-0000-000000000001'
WHERE id = (
    SELECT id FROM good_jobs WHERE finished_at IS NULL AND scheduled_at <= timezone('UTC', now()) AND queue_name = %s
        AND locked_by_id IS NULL
    ORDER BY priority NULLS LAST, created_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, executions_count
"""
END = """
UPDATE good_jobs SET finished_at = timezone('UTC', clock_timestamp()), error = %s, error_event = %s,
    locked_by_id = NULL, locked_at = NULL
WHERE id = %s
"""
RETRY = """
UPDATE good_jobs SET performed_at = NULL, error = 'Oops: secret', error_event = 3, locked_by_id = NULL, locked_at = NULL
WHERE id = %s
"""


def work(url: str) -> None:
    """Four threads side by side: jobs of emails succeed at the second try, jobs of images fail at once."""

    def one(_: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for queue in ("emails", "images"):
                while row := connection.execute(TAKE, (queue,)).fetchone():
                    if queue == "images":
                        connection.execute(END, ("Oops: secret", 1, row[0]))
                    elif row[1] == 1:
                        connection.execute(RETRY, (row[0],))
                    else:
                        connection.execute(END, (None, None, row[0]))

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
            options={"preset": "good-job", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 41, "scheduled": 2, "retry": 1},
                "images": {"ready": 4, "running": 1, "reserved": 1},
            },
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
                'taskq_worker_up{worker="web:7"}': 1,
                'taskq_worker_up{worker="web:8"}': 0,
                'taskq_worker_slots{worker="web:7"}': 6,
                'taskq_worker_tasks{worker="web:7",state="running"}': 1,
                'taskq_scheduler_entries{scheduler="cron"}': 2,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="cron",entry="daily"}': 1700086400,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="cron",entry="hourly"}': 1700003600,
            },
            work=lambda: work(server.url),
            finished={("emails", "Mail", "succeeded"): 41, ("images", "Resize", "failed"): 4},
        )


async def test_ages_are_by_the_server_s_clock(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    for queue, state, age in (("emails", "ready", 60), ("images", "ready", 120), ("images", "running", 60)):
        assert age <= (page.value("taskq_oldest_task_age_seconds", queue=queue, state=state) or 0) < age + 60


async def test_a_version_that_is_not_known_is_named_by_what_it_lacks(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("ALTER TABLE good_jobs DROP locked_by_id, DROP job_class")  # as in version 3.0
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "good-job"}) as watched:
        assert (await watched.page()).value("taskq_source_up") == 0
        assert "has no column job_class, locked_by_id; good-job is known in 4" in str(watched.runner.error)


@pytest.mark.parametrize(("kept", "counted"), [("", set()), ("1", {"failed"}), ("NULL", {"succeeded", "failed"})])
async def test_what_may_be_deleted_does_not_begin_at_0(
    postgres_dsn: str, make_source: Any, make_ledger: Any, kept: str, counted: set[str]
) -> None:
    """preserve_job_records is false, on_unhandled_error, true."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        source, ledger = make_source(None, preset="good-job"), make_ledger()
        async with connect(source) as client:
            await step(source, client, ledger)
            assert ledger.counted == set(), "nobody knows yet"
            if kept:
                end = f"UPDATE good_jobs SET finished_at = now(), error_event = {kept}, error = ''"
                connection.execute(
                    f"INSERT INTO good_jobs (queue_name, created_at, updated_at) VALUES ('a', now(), now()); {end}"
                )
            await step(source, client, ledger)
            assert ledger.counted == counted
            advice = [f.advice for f in await diagnose(source, client) if "no job is seen to stay" in f.text]
    assert len(advice) == (0 if kept else 1)
    assert all("preserve_job_records" in text for text in advice)


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
