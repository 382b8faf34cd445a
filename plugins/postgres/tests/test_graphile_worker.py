"""Preset graphile-worker, with the library's own schema, jobs and workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch
from taskq_exporter.testing.node import run_node

pytestmark = pytest.mark.newest

NODE = Path(__file__).parent / "node"
UNNAMED = "graphile-worker"  # of jobs without a queue


def graphile(url: str, step: str, version: str = "graphile-worker") -> None:
    """Run a step of graphile_worker.mjs."""
    run_node(NODE, "graphile_worker.mjs", version, url, step)


def work(url: str) -> None:
    """Workers of two processes, side by side, until nothing is ready that they know."""
    with psycopg.connect(url, autocommit=True) as connection:  # as after the four hours that a lost worker's locks hold
        connection.execute("UPDATE graphile_worker._private_job_queues SET locked_at = NULL, locked_by = NULL")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: graphile(url, "work"), range(2)))


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        graphile(server.url, "fill")
        with psycopg.connect(server.url) as connection:
            row = connection.execute(
                "SELECT locked_by FROM graphile_worker.jobs WHERE locked_at IS NOT NULL"
            ).fetchone()
            assert row
        yield World(
            url=server.url,
            server=server,
            options={"preset": "graphile-worker", "poll_interval": "100ms"},
            tasks={
                UNNAMED: {"ready": 4, "scheduled": 1, "retry": 1, "dead": 1},
                "serial": {"ready": 2, "running": 1, "dead": 0},
            },
            series={
                f'taskq_tasks_by_priority{{queue="{UNNAMED}",state="ready",priority="-5"}}': 1,
                f'taskq_tasks_by_priority{{queue="{UNNAMED}",state="ready",priority="0"}}': 3,
                f'taskq_worker_tasks{{worker="{row[0]}",state="running"}}': 1,
                f'taskq_oldest_task_age_seconds{{queue="{UNNAMED}",state="running"}}': 0,
            },
            work=lambda: work(server.url),
            finished={(UNNAMED, "", "succeeded"): 6},
        )


async def test_ages_are_those_of_the_table(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    with psycopg.connect(seeded.url) as connection:
        ages = connection.execute(
            "SELECT extract(epoch FROM now() - min(created_at))::float8,"
            " extract(epoch FROM now() - min(locked_at))::float8 FROM graphile_worker.jobs"
        ).fetchone()
    assert ages
    assert 0 <= ages[0] - page.value("taskq_oldest_task_age_seconds", queue=UNNAMED, state="ready") < 30
    assert 0 <= ages[1] - page.value("taskq_oldest_task_age_seconds", queue="serial", state="running") < 30


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_what_was_added_is_counted_and_an_older_version_is_the_same(postgres_dsn: str) -> None:
    graphile(postgres_dsn, "fill", "graphile-worker-0.17")
    source = {"adapter": "postgres", "url": postgres_dsn, "preset": "graphile-worker", "poll_interval": "100ms"}
    async with watch(source, follow=True) as watched:
        await watched.following()
        page = await watched.page()
        assert page.value("taskq_tasks", queue=UNNAMED, state="ready") == 4
        assert page.value("taskq_tasks", queue=UNNAMED, state="dead") == 1
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute("SELECT graphile_worker.add_job('mail') FROM generate_series(1, 5)")
        await watched.until(lambda page: page.total("taskq_tasks_enqueued_total") >= 5, "what was added is counted")
        assert (await watched.page()).total("taskq_tasks_enqueued_total") == 5
