"""Preset pgqueuer, with the library's own schema, jobs and workers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch
from taskq_exporter.testing.environments import python_with

pytestmark = pytest.mark.newest

HERE = Path(__file__).parent


def run(url: str, *steps: str) -> None:
    """Run steps of pgqueuer_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-absurd-pgqueuer.txt")
    command = [str(python), "-W", "ignore", "pgqueuer_project.py"]

    def one(step: str) -> None:
        subprocess.run([*command, step, url], cwd=HERE, check=True, timeout=60, stdin=subprocess.DEVNULL)

    with ThreadPoolExecutor(len(steps)) as pool:
        list(pool.map(one, steps))


def work(url: str) -> None:
    run(url, "work", "work")
    run(url, "cancel")
    run(url, "fold")  # it writes the log's rows again


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        run(server.url, "fill")
        run(server.url, "take")
        with psycopg.connect(server.url) as connection:
            row = connection.execute(
                "SELECT queue_manager_id, extract(epoch FROM heartbeat)::float8,"
                " (SELECT extract(epoch FROM next_run)::float8 FROM pgqueuer_schedules)"
                " FROM pgqueuer WHERE status = 'picked'"
            ).fetchone()
            assert row
        yield World(
            url=server.url,
            server=server,
            options={"preset": "pgqueuer", "poll_interval": "100ms"},
            tasks={
                "mail": {"ready": 4, "scheduled": 1},
                "boom": {"ready": 1},
                "flaky": {"ready": 1},
                "unwanted": {"ready": 1},
                "later": {"retry": 1},
                "hang": {"running": 1},
                "held": {"failed": 1},
            },
            series={
                'taskq_tasks_by_priority{queue="mail",state="ready",priority="5"}': 1,
                'taskq_tasks_by_priority{queue="mail",state="ready",priority="0"}': 3,
                f'taskq_worker_tasks{{worker="{row[0]}",state="running"}}': 1,
                f'taskq_worker_last_heartbeat_timestamp_seconds{{worker="{row[0]}"}}': row[1],
                'taskq_schedule_next_run_timestamp_seconds{scheduler="schedule",entry="nightly 0 3 * * *"}': row[2],
            },
            work=lambda: work(server.url),
            finished={
                ("mail", "mail", "succeeded"): 4,
                ("boom", "boom", "failed"): 1,
                ("flaky", "flaky", "succeeded"): 1,
                ("unwanted", "unwanted", "cancelled"): 1,
            },
        )


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_retries_and_run_times_are_told(postgres_dsn: str) -> None:
    run(postgres_dsn, "fill")
    source = {"adapter": "postgres", "url": postgres_dsn, "preset": "pgqueuer", "poll_interval": "100ms"}
    async with watch(source, follow=True) as watched:
        await watched.following()
        await asyncio.to_thread(run, postgres_dsn, "work")
        page = await watched.until(lambda page: page.total("taskq_tasks_finished_total") >= 6, "the work is counted")
        assert {k: n for k, n in page.by("taskq_tasks_retried_total", "queue").items() if n} == {("flaky",): 1}
        runs = page.by("taskq_task_run_duration_seconds_count", "queue", "outcome")
        assert {k: n for k, n in runs.items() if n} == {
            ("mail", "succeeded"): 4,
            ("boom", "failed"): 1,
            ("flaky", "succeeded"): 1,
            ("flaky", "retried"): 1,
        }
