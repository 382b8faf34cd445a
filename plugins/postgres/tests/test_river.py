"""Preset River: the table and the inserts of its client, and updates as its workers do them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch
from taskq_exporter.testing.environments import python_with

HERE = Path(__file__).parent
pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Oban needs Python 3.12")]

#: What the client's package leaves out, written after River's migrations 2 to 6.
INDEXES = """
CREATE INDEX river_job_kind ON river_job (kind);
CREATE INDEX river_job_state_and_finalized_at_index ON river_job (state, finalized_at) WHERE finalized_at IS NOT NULL;
CREATE INDEX river_job_prioritized_fetching_index ON river_job (state, queue, priority, scheduled_at, id);
"""
QUEUES = """
CREATE TABLE river_queue (
    name text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), metadata jsonb NOT NULL DEFAULT '{}',
    paused_at timestamptz, updated_at timestamptz NOT NULL
);
INSERT INTO river_queue VALUES ('emails', now(), '{}', NULL, now()), ('quiet', now(), '{}', now(), now());
"""
#: What a worker takes, and what one that was stopped leaves; a job that failed and waits, one that waits for others.
TAKE = """
UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = now(),
    attempted_by = array_append(attempted_by, %(client)s::text)
WHERE id IN (
    SELECT id FROM river_job WHERE state = 'available' AND queue = %(queue)s AND scheduled_at <= now()
    ORDER BY priority, scheduled_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id
"""
END = "UPDATE river_job SET state = %(state)s, finalized_at = now() WHERE id = %(id)s AND state = 'running'"
RETRY = """
UPDATE river_job SET state = 'retryable', scheduled_at = now() + %(wait)s::interval, errors = ARRAY['{}'::jsonb]
WHERE id = %(id)s AND state = 'running'
"""
BLOCKED = "INSERT INTO river_job (kind, queue, state, max_attempts) VALUES ('mail', 'emails', 'pending', 25)"


def run(url: str, function: str) -> str:
    """Run a function of river_project.py."""
    python = python_with(HERE / "requirements-oban-river.txt")
    command = [str(python), "-W", "ignore", "river_project.py", function, url]
    return subprocess.run(command, cwd=HERE, check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout


def take(connection: psycopg.Connection[tuple[int]], queue: str, client: str) -> int | None:
    row = connection.execute(TAKE, {"queue": queue, "client": client}).fetchone()
    return row[0] if row else None


def work(url: str) -> None:
    """Four workers side by side: all of emails succeed, all of images fail for good."""

    def one(worker: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for queue, state in (("emails", "completed"), ("images", "discarded")):
                while (job := take(connection, queue, f"w{worker}")) is not None:
                    connection.execute(END, {"state": state, "id": job})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    with psycopg.connect(url, autocommit=True) as connection:  # what cancelling does to a job that waits
        connection.execute("UPDATE river_job SET state = 'cancelled', finalized_at = now() WHERE queue = 'due'")


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        url = server.url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(run(url, "schema"))  # type: ignore[arg-type]
            connection.execute(INDEXES + QUEUES)
            run(url, "fill")
            connection.execute(BLOCKED)
            for wait in ("1 h", "-1 min"):
                job = take(connection, "images", "gone")
                connection.execute(RETRY, {"id": job, "wait": wait})
            take(connection, "emails", "one")
        yield World(
            url=url,
            options={"preset": "river", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 39, "scheduled": 1, "running": 1, "blocked": 1},
                "due": {"ready": 1},
                "images": {"ready": 2, "retry": 1},
            },
            series={
                'taskq_tasks_overdue{queue="due"}': 1,
                'taskq_tasks_overdue{queue="images"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="2"}': 39,
                'taskq_queue_paused{queue="quiet"}': 1,
                'taskq_queue_paused{queue="emails"}': 0,
                'taskq_worker_tasks{worker="one",state="running"}': 1,
            },
            work=lambda: work(url),
            finished={
                ("emails", "mail", "succeeded"): 39,
                ("images", "resize", "failed"): 1,
                ("due", "mail", "cancelled"): 1,
            },
        )


async def test_ages_are_those_of_the_tables(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    with psycopg.connect(seeded.url) as connection:
        ages = connection.execute(
            "SELECT extract(epoch FROM now() - min(scheduled_at) FILTER (WHERE queue = 'due'))::float8,"
            " extract(epoch FROM now() - min(attempted_at) FILTER (WHERE state = 'running'))::float8 FROM river_job"
        ).fetchone()
    assert ages
    assert 0 <= ages[0] - page.value("taskq_oldest_task_age_seconds", queue="due", state="ready") < 30
    assert 0 <= ages[1] - page.value("taskq_oldest_task_age_seconds", queue="emails", state="running") < 30


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_a_schema_from_before_queues_could_be_paused(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        old = run(postgres_dsn, "schema").replace("'pending',", "")
        connection.execute(old + INDEXES)  # type: ignore[arg-type]
        connection.execute("INSERT INTO river_job (kind, queue, max_attempts) VALUES ('mail', 'emails', 25)")
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "river"}) as watched:
        page = await watched.page()
        assert page.value("taskq_tasks", queue="emails", state="ready") == 1
        assert page.value("taskq_source_problems") == 0
        assert not page.values("taskq_tasks", state="blocked")
        assert not page.values("taskq_queue_paused")
