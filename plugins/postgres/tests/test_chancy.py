"""Preset chancy, with the library's own migrations, jobs and workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import connect
from taskq_exporter_postgres.follow import step

from taskq_exporter.testing import AdapterConformance, World, start_postgres, watch
from taskq_exporter.testing.environments import python_with, run_side_by_side

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.newest,
    pytest.mark.py312,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the libraries need Python 3.12"),
]
RUN = "import sys, chancy_project; chancy_project.run(*sys.argv[1:])"


def project(url: str, *functions: str) -> None:
    """Run functions of chancy_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-chancy-dbos-django-q2.txt")
    run_side_by_side(python, RUN, [(name, url) for name in functions], HERE)


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        for function in ("schema", "fill"):
            project(server.url, function)
        yield World(
            url=server.url,
            server=server,
            options={"preset": "chancy", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 4, "scheduled": 1},
                "images": {"ready": 3},
                "later": {"retry": 1},
                "slow": {"running": 1},
            },
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 3,
                'taskq_worker_up{worker="gone"}': 1,
                'taskq_worker_tasks{worker="gone",state="running"}': 1,
                'taskq_queue_paused{queue="quiet"}': 1,
                'taskq_queue_paused{queue="emails"}': 0,
                'taskq_queue_consumers{queue="emails"}': 1,
                'taskq_queue_slots{queue="emails"}': 3,
                'taskq_scheduler_entries{scheduler="cron"}': 1,
            },
            work=lambda: project(server.url, "work", "work", "cancel"),
            finished={
                ("emails", "chancy_project.mail", "succeeded"): 4,
                ("images", "chancy_project.boom", "failed"): 3,
                ("quiet", "chancy_project.mail", "cancelled"): 1,
            },
        )


async def test_ages_and_times_are_those_of_the_tables(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    with psycopg.connect(seeded.url) as connection:
        truth = connection.execute(
            "SELECT extract(epoch FROM now() - min(scheduled_at) FILTER (WHERE queue = 'emails'))::float8,"
            " extract(epoch FROM now() - min(started_at) FILTER (WHERE state = 'running'))::float8,"
            " (SELECT extract(epoch FROM next_run)::float8 FROM chancy_cron) FROM chancy_jobs"
        ).fetchone()
    assert truth
    assert page.value("taskq_oldest_task_age_seconds", queue="emails", state="ready") >= 60
    assert 0 <= truth[0] - page.value("taskq_oldest_task_age_seconds", queue="emails", state="ready") < 30
    assert 0 <= truth[1] - page.value("taskq_oldest_task_age_seconds", queue="slow", state="running") < 30
    assert page.value("taskq_schedule_next_run_timestamp_seconds", scheduler="cron", entry="hourly") == truth[2]


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_the_schema_before_jobs_had_claims(
    postgres_dsn: str, admin: psycopg.Connection[Any], make_source: Any, make_ledger: Any
) -> None:
    project(postgres_dsn, "old")
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "chancy"}) as watched:
        page = await watched.page()
    assert page.value("taskq_source_problems") == 0
    assert not page.values("taskq_scheduler_entries")
    source, ledger = make_source(None, preset="chancy"), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        admin.execute("UPDATE chancy_jobs SET completed_at = now()")
        await step(source, client, ledger)
    assert ledger.totals == {("emails", "chancy_project.mail", "failed"): 1}
