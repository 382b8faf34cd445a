"""Preset django-tasks-db, with the library's own migrations, tasks and workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from taskq_exporter.testing import AdapterConformance, World, start_postgres

pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")]


def project(url: str, *functions: str) -> None:
    """Run functions of django_db_project.py, each in a process of its own, side by side."""
    parts = conninfo_to_dict(url)
    names = {"dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD", "host": "PGHOST", "port": "PGPORT"}
    env = {**os.environ, **{variable: str(parts[name]) for name, variable in names.items()}}
    code = "import django_db_project; django_db_project.{}()"
    children = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", code.format(name)], env=env, cwd=Path(__file__).parent)
        for name in functions
    ]
    assert [child.wait(60) for child in children] == [0] * len(children)


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        project(server.url, "fill")
        project(server.url, "take")
        yield World(
            url=server.url,
            server=server,
            options={"preset": "django-tasks-db", "poll_interval": "100ms"},
            tasks={"emails": {"ready": 4, "scheduled": 1}, "images": {"ready": 2, "running": 1}},
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="7"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 3,
                'taskq_worker_tasks{worker="w1",state="running"}': 1,
            },
            work=lambda: project(server.url, "work", "work"),
            finished={
                ("emails", "django_db_project.mail", "succeeded"): 4,
                ("images", "django_db_project.mail", "succeeded"): 1,
                ("images", "django_db_project.boom", "failed"): 1,
            },
        )


class TestConformance(AdapterConformance):
    adapter = "postgres"

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
