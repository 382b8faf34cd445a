"""TaskFlow on servers of the test run, and a source of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "taskflow_project")
taskflow_project = sys.modules["taskflow_project"]

from taskq_exporter_taskflow.options import TaskflowOptions  # noqa: E402

from taskq_exporter.api import Source  # noqa: E402

MakeSource = Callable[..., Source]


@pytest.fixture
def flow(postgres_dsn: str, redis_url: str) -> Iterator[taskflow_project.TaskFlow]:  # type: ignore[name-defined]
    """TaskFlow without tasks."""
    with taskflow_project.TaskFlow(postgres_dsn, redis_url) as project:
        project.db.execute(taskflow_project.TABLES)
        yield project


@pytest.fixture
def make_source(postgres_dsn: str, redis_url: str) -> MakeSource:
    """A source over both servers, or over others."""

    def make(
        *, database: str = postgres_dsn, redis: str = redis_url, timeout: float = 5.0, **options: object
    ) -> Source:
        model = TaskflowOptions.model_validate({"redis_url": redis, **options})
        return Source(name="flow", adapter="taskflow", url=lambda: database, options=model, timeout=timeout)

    return make
