"""Preset pg-boss, with the library's own schemas, jobs and workers: 12, 11 and 10."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, Server, World, start_postgres, watch
from taskq_exporter.testing.node import run_node

pytestmark = pytest.mark.newest

NODE = Path(__file__).parent / "node"
READY = {
    "emails": {"ready": 4, "scheduled": 1},
    "images": {"ready": 1},
    "flaky": {"ready": 1},
    "due": {"ready": 1},
    "taken": {"running": 1},
    "reports": {"retry": 1},
    "empty": {"ready": 0},
}
SERIES = {
    'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
    'taskq_scheduler_entries{scheduler="cron"}': 1,
    'taskq_oldest_task_age_seconds{queue="empty",state="ready"}': 0,
}
FINISHED = {
    ("emails", "emails", "succeeded"): 4,
    ("images", "images", "failed"): 1,
    ("flaky", "flaky", "succeeded"): 1,
    ("due", "due", "cancelled"): 1,
}
#: What cron does when a schedule's time has come.
FIRED = """
UPDATE pgboss.schedule SET last_job_id = j.id FROM pgboss.job AS j WHERE j.name = 'emails' AND j.priority = 5
RETURNING extract(epoch FROM j.created_on)::float8
"""


def boss(server: Server, version: int, step: str) -> None:
    """Run a step of pg_boss.mjs in the schema of that version."""
    run_node(NODE, "pg_boss.mjs", f"pg-boss-{version}", server.url, schema_of(version), step)


def schema_of(version: int) -> str:
    return "pgboss" if version == 12 else f"pgboss{version}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def newest(server: Server) -> World:
    boss(server, 12, "fill")
    with psycopg.connect(server.url, autocommit=True) as connection:
        (fired,) = connection.execute(FIRED).fetchone() or (0.0,)
    return World(
        url=server.url,
        options={"preset": "pg-boss", "poll_interval": "100ms"},
        # of a flow: one that is ready, one that waits for it
        tasks={**READY, "emails": {"ready": 5, "scheduled": 1}, "reports": {"retry": 1, "blocked": 1}},
        series={
            **SERIES,
            'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 4,
            'taskq_schedule_last_run_timestamp_seconds{scheduler="cron",entry="emails"}': fired,
        },
        work=lambda: boss(server, 12, "work"),
        finished={**FINISHED, ("emails", "emails", "succeeded"): 5},
    )


@pytest.fixture(scope="module")
def oldest(server: Server) -> World:
    boss(server, 10, "fill")
    return World(
        url=server.url,
        server=server,
        options={"preset": "pg-boss", "schema": "pgboss10", "poll_interval": "100ms"},
        tasks=READY,
        series={**SERIES, 'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 3},
        work=lambda: boss(server, 10, "work"),
        finished=FINISHED,
    )


class TestVersion12(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, newest: World) -> World:
        return newest


async def test_what_waited_is_ready_after_the_work_it_waited_for(newest: World) -> None:
    async with watch({"adapter": "postgres", "url": newest.url, **newest.options}) as watched:
        page = await watched.page()
    assert page.value("taskq_tasks", queue="reports", state="ready") == 1
    assert page.value("taskq_tasks", queue="reports", state="blocked") == 0


async def test_version_11_and_its_missing_column(server: Server) -> None:
    boss(server, 11, "fill")
    source = {"adapter": "postgres", "url": server.url, "preset": "pg-boss", "schema": "pgboss11"}
    async with watch(source) as watched:
        page = await watched.page()
    seen = {key: n for key, n in page.by("taskq_tasks", "queue", "state").items() if n}
    assert seen == {(queue, state): n for queue, states in READY.items() for state, n in states.items() if n}
    assert not page.values("taskq_tasks", state="blocked")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE pgboss11.job RENAME COLUMN started_on TO begun_on")
    async with watch(source) as watched:
        assert (await watched.page()).value("taskq_source_up") == 0
        assert 'table "pgboss11"."job" has no column started_on; pg-boss is known in 12' in str(watched.runner.error)


class TestVersion10(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, oldest: World) -> World:
        return oldest
