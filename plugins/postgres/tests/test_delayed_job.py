"""Preset Delayed Job: its table written by hand after its migration, and updates as its workers do them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch

pytestmark = pytest.mark.newest

#: delayed_job_active_record 4.1.
TABLE = """
CREATE TABLE delayed_jobs (
    id bigserial PRIMARY KEY, priority integer NOT NULL DEFAULT 0, attempts integer NOT NULL DEFAULT 0,
    handler text NOT NULL, last_error text, run_at timestamp(6), locked_at timestamp(6), failed_at timestamp(6),
    locked_by varchar, queue varchar, created_at timestamp(6), updated_at timestamp(6)
);
CREATE INDEX delayed_jobs_priority ON delayed_jobs (priority, run_at);
"""
FILL = """
INSERT INTO delayed_jobs (queue, priority, attempts, run_at, locked_at, locked_by, failed_at, handler)
SELECT queue, priority, tried, at, CASE WHEN worker > '' THEN at END, worker, CASE WHEN failed THEN at END,
    '--- !ruby/object:Mail secret of a user'
FROM (VALUES
    ('emails', 0, 0, 40, interval '-1 min', NULL, false), ('emails', 5, 0, 1, '-1 s', NULL, false),
    ('emails', 0, 0, 2, '1 h', NULL, false), ('emails', 0, 2, 1, '1 h', NULL, false),
    (NULL, 0, 1, 3, '0 s', NULL, false),
    (NULL, 0, 0, 1, '-1 min', 'host:web pid:7', false), (NULL, 0, 25, 2, '-1 h', 'host:web pid:8', true)
) AS v (queue, priority, tried, n, wait, worker, failed), generate_series(1, n),
    LATERAL (SELECT timezone('UTC', now()) + wait AS at) AS t;
"""
#: Delayed::Backend::ActiveRecord::Job.reserve, and what Delayed::Worker does when a job is done, failed or given up.
TAKE = """
UPDATE delayed_jobs SET locked_at = timezone('UTC', clock_timestamp()), locked_by = %s WHERE id IN (
    SELECT id FROM delayed_jobs WHERE run_at <= timezone('UTC', now()) AND locked_at IS NULL AND failed_at IS NULL
    ORDER BY priority, run_at LIMIT 1 FOR UPDATE
) AND locked_at IS NULL RETURNING id, queue, attempts
"""
DONE = "DELETE FROM delayed_jobs WHERE id = %s"
AGAIN = """
UPDATE delayed_jobs SET attempts = attempts + 1, last_error = 'secret', run_at = timezone('UTC', now()),
    locked_at = NULL, locked_by = NULL
WHERE id = %s
"""
FAILED = "UPDATE delayed_jobs SET attempts = attempts + 1, failed_at = timezone('UTC', clock_timestamp()) WHERE id = %s"


def work(url: str) -> None:
    """Four workers side by side: jobs of emails succeed at the second try, the others are given up."""

    def one(worker: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while rows := connection.execute(TAKE, (f"w{worker}",)).fetchall():
                for job, queue, tried in rows:
                    if queue == "emails":
                        connection.execute(DONE if tried else AGAIN, (job,))
                    else:
                        connection.execute(FAILED, (job,))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    one(4)  # a worker whose job another one has taken first finds none, and goes


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(TABLE)
            connection.execute(FILL)
        yield World(
            url=server.url,
            options={"preset": "delayed-job", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 41, "scheduled": 2, "retry": 1},
                "default": {"ready": 3, "running": 1, "failed": 2},
            },
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
                'taskq_worker_tasks{worker="host:web pid:7",state="running"}': 1,
            },
            work=lambda: work(server.url),
            finished={("default", "", "failed"): 3},
        )


async def test_ages_are_by_the_server_s_clock(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    for queue, state in (("emails", "ready"), ("default", "running")):
        assert 60 <= (page.value("taskq_oldest_task_age_seconds", queue=queue, state=state) or 0) < 120
    assert (page.value("taskq_oldest_task_age_seconds", queue="default", state="ready") or 0) < 60


async def test_what_is_deleted_is_no_zero(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}, follow=True) as watched:
        await watched.following()
        page = await watched.page()
    assert not page.values("taskq_tasks_finished_total")


async def test_a_version_that_is_not_known_is_named_by_what_it_lacks(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("ALTER TABLE delayed_jobs DROP queue")  # as in version 2
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "delayed-job"}) as watched:
        assert (await watched.page()).value("taskq_source_up") == 0
        assert "has no column queue; delayed-job is known in 3 and 4" in str(watched.runner.error)


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
