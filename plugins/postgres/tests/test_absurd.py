"""Preset absurd, with upstream's own schema, and tasks and workers of its SDK."""

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
    """Run steps of absurd_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-absurd-pgqueuer.txt")
    command = [str(python), "-W", "ignore", "absurd_project.py"]

    def one(step: str) -> None:
        subprocess.run([*command, step, url], cwd=HERE, check=True, timeout=60, stdin=subprocess.DEVNULL)

    with ThreadPoolExecutor(len(steps)) as pool:
        list(pool.map(one, steps))


#: The claim of the worker that is gone was for a second.
EXPIRE = "UPDATE absurd.r_agents SET claim_expires_at = now() - interval '1 s' WHERE claimed_by = 'gone'"


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        run(server.url, "fill")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(EXPIRE)
        yield World(
            url=server.url,
            server=server,
            options={"preset": "absurd", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 4},
                "images": {"ready": 2},  # of partitions, which are no queues of their own
                "agents": {"ready": 1, "retry": 1, "scheduled": 1, "blocked": 1, "running": 1, "lost": 1},
                "empty": {"ready": 0, "running": 0},
            },
            series={
                'taskq_worker_tasks{worker="w1",state="running"}': 1,
                'taskq_oldest_task_age_seconds{queue="empty",state="ready"}': 0,
            },
            work=lambda: run(server.url, "work", "work", "cancel"),
            finished={
                ("emails", "mail", "succeeded"): 3,
                ("emails", "boom", "failed"): 1,
                ("images", "mail", "succeeded"): 1,
                ("images", "flaky", "succeeded"): 1,
                ("agents", "sleep", "cancelled"): 1,
            },
        )


async def test_ages_are_those_of_the_tables(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
        assert {queue for queue, _ in page.by("taskq_tasks", "queue", "state")} == {
            "emails",
            "images",
            "agents",
            "empty",
        }
    with psycopg.connect(seeded.url) as connection:
        ages = connection.execute(
            "SELECT (SELECT extract(epoch FROM now() - min(available_at))::float8 FROM absurd.r_emails),"
            " (SELECT extract(epoch FROM now() - started_at)::float8 FROM absurd.r_agents WHERE claimed_by = 'w1')"
        ).fetchone()
    assert ages
    assert 0 <= ages[0] - page.value("taskq_oldest_task_age_seconds", queue="emails", state="ready") < 30
    assert 0 <= ages[1] - page.value("taskq_oldest_task_age_seconds", queue="agents", state="running") < 30


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_retries_and_times_are_told(postgres_dsn: str) -> None:
    run(postgres_dsn, "fill")
    source = {"adapter": "postgres", "url": postgres_dsn, "preset": "absurd", "poll_interval": "100ms"}
    async with watch(source, follow=True) as watched:
        await watched.following()
        await asyncio.to_thread(run, postgres_dsn, "work")
        page = await watched.until(lambda page: page.total("taskq_tasks_finished_total") >= 6, "the work is counted")
    retried = page.by("taskq_tasks_retried_total", "queue", "task")
    assert {k: n for k, n in retried.items() if n} == {("images", "flaky"): 1}
    runs = page.by("taskq_task_run_duration_seconds_count", "task", "outcome")
    assert {k: n for k, n in runs.items() if n} == {
        ("mail", "succeeded"): 4,
        ("boom", "failed"): 1,
        ("flaky", "succeeded"): 1,
        ("flaky", "retried"): 1,
    }
    assert page.total("taskq_task_wait_duration_seconds_count") == 6, "of first attempts"
