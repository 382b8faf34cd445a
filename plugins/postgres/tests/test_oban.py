"""Preset Oban: the Python library with its workers, and Elixir's tables with updates as its engine does them."""

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

pytestmark = pytest.mark.newest

HERE = Path(__file__).parent

# --- Oban for Python


def project(url: str, *functions: str) -> None:
    """Run functions of oban_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-oban-river.txt")
    children = [subprocess.Popen([str(python), "oban_project.py", name, url], cwd=HERE) for name in functions]
    assert [child.wait(60) for child in children] == [0] * len(children)


#: However slow this machine is, the node that is gone beats for as long as the tests run, and another one does not.
BEATS = """
UPDATE oban_producers SET updated_at = updated_at + interval '1 h' WHERE node = 'gone';
INSERT INTO oban_producers (uuid, node, queue, meta, updated_at)
VALUES (gen_random_uuid(), 'silent', 'slow', '{"local_limit": 5}', timezone('UTC', now()) - interval '90 s');
INSERT INTO oban_jobs (queue, worker, state) VALUES ('reports', 'of a workflow', 'suspended');
"""


@pytest.fixture(scope="module")
def of_python() -> Iterator[World]:
    with start_postgres() as server:
        project(server.url, "fill")
        project(server.url, "hold")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(BEATS)
            connection.execute(
                "UPDATE oban_jobs SET scheduled_at = scheduled_at + interval '1 h' WHERE state = 'retryable'"
            )
        yield World(
            url=server.url,
            options={"preset": "oban", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 31, "scheduled": 1},
                "due": {"ready": 1},
                "images": {"ready": 3},
                "reports": {"retry": 1, "blocked": 1},
                "slow": {"running": 1},
            },
            series={
                'taskq_tasks_overdue{queue="due"}': 1,
                'taskq_tasks_overdue{queue="emails"}': 0,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="3"}': 1,
                'taskq_queue_slots{queue="slow"}': 3,
                'taskq_queue_consumers{queue="slow"}': 1,
                'taskq_queue_paused{queue="slow"}': 0,
                'taskq_queue_paused{queue="quiet"}': 1,
                'taskq_worker_up{worker="gone"}': 1,
                'taskq_worker_up{worker="silent"}': 0,
                'taskq_worker_slots{worker="gone"}': 4,
                'taskq_worker_tasks{worker="gone",state="running"}': 1,
            },
            work=lambda: project(server.url, "work", "work"),
            finished={
                ("emails", "__main__.mail", "succeeded"): 31,
                ("images", "__main__.boom", "failed"): 2,
                ("images", "__main__.stop", "cancelled"): 1,
            },
        )


@pytest.mark.py312
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Oban needs Python 3.12")
class TestOfPython(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, of_python: World) -> World:
        return of_python


# --- Oban for Elixir

#: As its migrations 1 to 14 leave it, without what keeps arguments unique; written by hand.
ELIXIR = """
CREATE TYPE oban_job_state AS ENUM (
    'available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'
);
CREATE TABLE oban_jobs (
    id bigserial PRIMARY KEY,
    state oban_job_state NOT NULL DEFAULT 'available',
    queue text NOT NULL DEFAULT 'default',
    worker text NOT NULL,
    args jsonb NOT NULL DEFAULT '{}',
    errors jsonb[] NOT NULL DEFAULT '{}',
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 20,
    inserted_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
    scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
    attempted_at timestamp,
    completed_at timestamp,
    attempted_by text[],
    discarded_at timestamp,
    priority integer NOT NULL DEFAULT 0,
    tags text[] DEFAULT '{}',
    meta jsonb DEFAULT '{}',
    cancelled_at timestamp
);
CREATE INDEX oban_jobs_state_queue_priority_scheduled_at_id_index
    ON oban_jobs (state, queue, priority, scheduled_at, id);
CREATE INDEX oban_jobs_state_cancelled_at_index ON oban_jobs (state, cancelled_at);
CREATE INDEX oban_jobs_state_discarded_at_index ON oban_jobs (state, discarded_at);
CREATE UNLOGGED TABLE oban_peers (
    name text PRIMARY KEY, node text NOT NULL, started_at timestamp NOT NULL, expires_at timestamp NOT NULL
);
"""
FILL = """
INSERT INTO oban_jobs (queue, worker, state, attempt, scheduled_at, attempted_at, attempted_by)
SELECT queue, 'App.' || initcap(queue), state::oban_job_state, tried, at, CASE WHEN tried > 0 THEN at END, '{one,uuid}'
FROM (VALUES
    ('emails', 'available', 0, 40, '-1 min'), ('emails', 'scheduled', 0, 2, '1 h'),
    ('emails', 'retryable', 1, 1, '1 h'), ('emails', 'suspended', 0, 3, '0 s'), ('images', 'executing', 1, 1, '-1 min'),
    ('images', 'retryable', 1, 1, '-1 min'), ('images', 'available', 0, 2, '0 s')
) AS v (queue, state, tried, n, wait), generate_series(1, n),
    LATERAL (SELECT timezone('UTC', now()) + wait::interval AS at) AS t;
"""
TAKE = """
WITH subset AS MATERIALIZED (
    SELECT id FROM oban_jobs WHERE state = 'available' AND queue = %s
    ORDER BY priority, scheduled_at, id LIMIT 2 FOR UPDATE SKIP LOCKED
)
UPDATE oban_jobs AS j SET state = 'executing', attempted_at = clock_timestamp() AT TIME ZONE 'UTC',
    attempted_by = ARRAY[%s, 'uuid'], attempt = attempt + 1
FROM subset AS x WHERE j.id = x.id AND j.attempt < j.max_attempts RETURNING j.id
"""
END = "UPDATE oban_jobs SET state = '{0}', {0}_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = %s"


def work(url: str) -> None:
    """Four nodes side by side; then jobs that wait are cancelled."""

    def one(node: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for queue, state in (("emails", "completed"), ("images", "discarded")):
                while taken := connection.execute(TAKE, (queue, f"n{node}")).fetchall():
                    for job in taken:
                        connection.execute(END.format(state), job)  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    with psycopg.connect(url, autocommit=True) as connection:
        for job in connection.execute("SELECT id FROM oban_jobs WHERE state = 'suspended'").fetchall():
            connection.execute(END.format("cancelled"), job)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def of_elixir() -> Iterator[World]:
    with start_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(ELIXIR)
            connection.execute(FILL)
        yield World(
            url=server.url,
            options={"preset": "oban", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 40, "scheduled": 2, "retry": 1, "blocked": 3},
                "images": {"ready": 3, "running": 1},
            },
            series={
                'taskq_tasks_overdue{queue="images"}': 1,
                'taskq_tasks_overdue{queue="emails"}': 0,
                'taskq_worker_tasks{worker="one",state="running"}': 1,
            },
            work=lambda: work(server.url),
            finished={
                ("emails", "App.Emails", "succeeded"): 40,
                ("images", "App.Images", "failed"): 2,
                ("emails", "App.Emails", "cancelled"): 3,
            },
        )


async def test_ages_are_by_the_server_s_clock(of_elixir: World) -> None:
    async with watch({"adapter": "postgres", "url": of_elixir.url, **of_elixir.options}) as watched:
        page = await watched.page()
    for queue, state in (("emails", "ready"), ("images", "ready"), ("images", "running")):
        assert 60 <= (page.value("taskq_oldest_task_age_seconds", queue=queue, state=state) or 0) < 120


async def test_before_suspended_was_a_word_and_before_jobs_were_cancelled(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(ELIXIR.replace("'suspended', ", ""))
        source = {"adapter": "postgres", "url": postgres_dsn, "preset": "oban"}
        async with watch(source) as watched:
            page = await watched.page()
            assert (page.value("taskq_source_up"), page.value("taskq_source_problems")) == (1, 0)
        connection.execute("ALTER TABLE oban_jobs DROP cancelled_at")
        async with watch(source) as watched:
            assert (await watched.page()).value("taskq_source_up") == 0
            assert "has no column cancelled_at" in str(watched.runner.error)


class TestOfElixir(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, of_elixir: World) -> World:
        return of_elixir
