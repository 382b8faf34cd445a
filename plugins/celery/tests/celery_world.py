"""An application of the matrix of tests: one version of Celery, one pool, one broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskq_exporter.testing import Page, Server, Watch, watch

FINISHED = "taskq_tasks_finished_total"
RECEIVED = "taskq_tasks_received_total"
DROPPED = "taskq_source_events_dropped_total"
STARTED = "taskq_tasks_started_total"
RETRIED = "taskq_tasks_retried_total"


@dataclass
class World:
    """An application on its broker, of one combination."""

    celery: str
    pool: str
    broker: str
    url: str
    make_project: Callable[..., Any]
    request: pytest.FixtureRequest
    state_dir: Path
    management: str = ""
    server: Server | None = None

    def __post_init__(self) -> None:
        self.project = self.make_project(self.url, celery=self.celery)

    @property
    def loses_events(self) -> bool:
        """Celery 5.4 empties its buffer of events after it was published, and with it those that came meanwhile from
        the pool's threads (celery/events/dispatcher.py, flush): almost every task-started, and the end of short tasks.
        """
        return (self.celery, self.pool) == ("5.4", "threads")

    def worker(self, *arguments: str, **how: Any) -> Any:
        return self.project.worker("-P", self.pool, "-c", "2", "--heartbeat-interval", "1", *arguments, **how)

    @contextlib.asynccontextmanager
    async def watched(self, **options: Any) -> AsyncIterator[Watch]:
        source = {"adapter": "celery", "url": self.url, "timeout": 5, **options}
        if self.management:
            source["management_url"] = self.management
        async with watch(source, follow=True, state_dir=self.state_dir) as watched:
            await watched.following()
            yield watched

    async def counted(
        self,
        watched: Watch,
        expected: dict[tuple[str, str], int],
        *,
        received: int | None = None,
        retried: int = 0,
        started: int | None = None,
    ) -> Page:
        """Wait until (task, outcome) are as expected, and see that they stay so.

        Where events are lost no more than what happened may be counted; what workers receive they tell always.
        """
        received = sum(expected.values()) + retried if received is None else received
        started = received if started is None else started

        def is_there(page: Page) -> bool:
            return page.total(RECEIVED) >= received and (
                self.loses_events or page.total(FINISHED) >= sum(expected.values())
            )

        await watched.until(is_there, f"{received} received, {expected}")
        await asyncio.sleep(0.3)  # what is counted twice would come now
        page = await watched.page()
        found = outcomes(page)
        assert page.by(RECEIVED, "queue").keys() == {("celery",)}
        assert page.total(RECEIVED) == received, page.text
        if self.loses_events:
            assert all(n <= expected.get(key, 0) for key, n in found.items()), found
            assert page.total(RETRIED) <= retried
            await watched.until(
                lambda p: p.total(STARTED) + p.total(DROPPED, reason="missed") == started, "what was lost is known", 10
            )
        else:
            assert found == expected, found
            assert page.total(STARTED) == started, page.text
            assert page.total(RETRIED) == retried, page.text
        return page


def outcomes(page: Page) -> dict[tuple[str, str], float]:
    """(task, outcome) and how many, without zeros."""
    found = page.by(FINISHED, "task", "outcome")
    return {(task.removeprefix("celery_project."), outcome): n for (task, outcome), n in found.items() if n}


def ready(page: Page) -> float | None:
    return page.value("taskq_tasks", queue="celery", state="ready")


def running(page: Page) -> float:
    return page.total("taskq_worker_tasks", state="running")
