"""Preset django-q2, with the library's own migrations, tasks and clusters."""

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


def project(url: str, *functions: str) -> None:
    """Run functions of django_q_project.py, each in a process of its own, side by side."""
    python = python_with(HERE / "requirements-chancy-dbos-django-q2.txt")
    code = "import django_q_project; django_q_project.run()"
    run_side_by_side(python, code, [(name, url) for name in functions], HERE)


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        project(server.url, "fill")
        yield World(
            url=server.url,
            server=server,
            options={"preset": "django-q2", "poll_interval": "100ms"},
            tasks={"emails": {"ready": 40}, "images": {"ready": 3}, "slow": {"reserved": 1}},
            series={
                'taskq_scheduler_entries{scheduler="django-q"}': 2,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="django-q",entry="nightly"}': 1767225600,
                'taskq_schedule_next_run_timestamp_seconds{scheduler="django-q",entry="nightly"}': 4102444800,
            },
            work=lambda: project(server.url, "work-emails", "work-emails", "work-images"),
            finished={
                ("emails", "django_q_project.mail", "succeeded"): 40,
                ("images", "django_q_project.boom", "failed"): 2,
                ("images", "django_q_project.flaky", "failed"): 1,  # the first try
                ("images", "django_q_project.flaky", "succeeded"): 1,
            },
        )


async def test_ages_are_those_of_the_table(seeded: World) -> None:
    async with watch({"adapter": "postgres", "url": seeded.url, **seeded.options}) as watched:
        page = await watched.page()
    with psycopg.connect(seeded.url) as connection:
        query = "SELECT extract(epoch FROM now() - min(lock))::float8 FROM django_q_ormq WHERE key = 'emails'"
        (age,) = connection.execute(query).fetchone() or (0.0,)
    shown = page.value("taskq_oldest_task_age_seconds", queue="emails", state="ready")
    assert shown is not None
    assert 0 < shown <= age < shown + 30
    assert not page.values("taskq_schedule_next_run_timestamp_seconds", entry="django_q_project.mail 2")


class TestConformance(AdapterConformance):
    adapter = "postgres"
    scrapes = 10

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_the_schema_before_tasks_told_their_cluster(
    postgres_dsn: str, admin: psycopg.Connection[Any], make_source: Any, make_ledger: Any
) -> None:
    project(postgres_dsn, "old")
    async with watch({"adapter": "postgres", "url": postgres_dsn, "preset": "django-q2"}) as watched:
        page = await watched.page()
    assert page.value("taskq_source_problems") == 0
    source, ledger = make_source(None, preset="django-q2"), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        admin.execute("UPDATE django_q_task SET stopped = now()")
        await step(source, client, ledger)
    assert ledger.totals == {("django-q2", "django_q_project.mail", "succeeded"): 1}
