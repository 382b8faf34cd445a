"""Preset dbos, with the library's own migrations, workflows and workers."""

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
RUN = "import sys, dbos_project; dbos_project.run(*sys.argv[1:])"


def project(url: str, *functions: str) -> None:
    """Run functions of dbos_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-chancy-dbos-django-q2.txt")
    run_side_by_side(python, RUN, [(name, url) for name in functions], HERE)


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        for function in ("take", "fill"):
            project(server.url, function)
        yield World(
            url=server.url,
            server=server,
            options={"preset": "dbos", "poll_interval": "100ms"},
            tasks={
                "dbos": {"running": 1},
                "emails": {"ready": 4},
                "images": {"ready": 2},
                "later": {"ready": 1, "scheduled": 1},
                "slow": {"running": 2},
            },
            series={
                'taskq_tasks_overdue{queue="later"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="7"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 3,
                'taskq_tasks{queue="quiet",state="ready"}': 0,
                'taskq_worker_tasks{worker="gone",state="running"}': 3,
                'taskq_scheduler_entries{scheduler="dbos"}': 1,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="dbos",entry="hourly"}': 1767322800,
            },
            work=lambda: project(server.url, "one", "two"),
            finished={
                ("emails", "mail", "succeeded"): 4,
                ("images", "boom", "failed"): 2,
                ("dbos", "mail", "cancelled"): 1,
                ("dbos", "mail", "succeeded"): 1,
                ("dbos", "nap", "timed_out"): 1,
                ("dbos", "nap", "dead"): 1,
            },
        )


async def test_ages_are_those_of_the_tables(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    with psycopg.connect(seeded.url) as connection:
        truth = connection.execute(
            "SELECT extract(epoch FROM now())::float8 - min(created_at) FILTER (WHERE queue_name = 'emails') / 1000.0,"
            " extract(epoch FROM now())::float8 - min(started_at_epoch_ms) FILTER (WHERE queue_name = 'slow') / 1000.0,"
            " extract(epoch FROM now())::float8 - min(created_at) FILTER (WHERE queue_name IS NULL) / 1000.0"
            " FROM dbos.workflow_status"
        ).fetchone()
    assert truth
    shown = page.by("taskq_oldest_task_age_seconds", "queue", "state")
    for age, key in zip(truth, (("emails", "ready"), ("slow", "running"), ("dbos", "running")), strict=True):
        assert 0 < shown[key] <= float(age) < shown[key] + 30


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_the_schema_before_ends_had_a_time(
    postgres_dsn: str, admin: psycopg.Connection[Any], make_source: Any, make_ledger: Any
) -> None:
    project(postgres_dsn, "old")
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "dbos"}) as watched:
        page = await watched.page()
    assert page.value("taskq_source_problems") == 0
    source, ledger = make_source(None, preset="dbos"), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        admin.execute("UPDATE dbos.workflow_status SET updated_at = extract(epoch FROM now()) * 1000")
        await step(source, client, ledger)
    assert ledger.totals == {("dbos", "mail", "failed"): 1}
