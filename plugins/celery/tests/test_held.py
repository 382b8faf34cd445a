"""Each task is in one state: ready, reserved, scheduled or running, whatever the pool and when it acknowledges."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from taskq_exporter_celery.adapter import connect
from taskq_exporter_celery.on_redis import broker
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import Source
from taskq_exporter.testing import Page, watch

pytestmark = pytest.mark.newest


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "READ_UNACKED_EVERY", 0.1)


def states(page: Page, queue: str = "celery") -> dict[str, float]:
    return {state: n for (state,), n in page.by("taskq_tasks", "state", queue=queue).items()}


@pytest.mark.parametrize("task", ["slow", "slow_late"])  # acknowledged as it begins, and when it has ended
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_states_of_tasks(redis_url: str, project: Any, pool: str, task: str) -> None:
    slots = 1 if pool == "solo" else 2
    acknowledged = slots if task == "slow" and pool != "solo" else 0
    config = {"adapter": "celery", "url": redis_url, "inspect": False}
    with redis.Redis.from_url(redis_url) as client:

        def settled(page: Page) -> bool:
            """What is on the page adds up to what is in Redis."""
            now = states(page)
            held = client.hlen("unacked")
            return (
                now["scheduled"] == 2
                and now["reserved"] == held - 2 - running + acknowledged
                and now["ready"] == 12 - held + 2 - acknowledged
            )

        async with watch(config, follow=True) as watched:
            await watched.following()
            project.send("ok", n=2, countdown=3600)
            worker = project.worker("-P", pool, "-c", str(slots), "--prefetch-multiplier", "3").ready()
            for priority in (0, 3, 9):
                project.send(task, 60.0, n=4, priority=priority)
            # A worker with the solo pool says nothing while it runs a task: that is held, and more is not known.
            running = 0 if pool == "solo" else slots
            await watched.until(lambda p: states(p).get("running") == running, "they run")
            await watched.until(settled, "all is read")
            await asyncio.sleep(0.5)
            page = await watched.page()
            assert settled(page), "and stays so"
            assert sum(states(page).values()) == 14
        if pool != "solo":  # an exporter that starts now asks what runs
            async with watch({**config, "name": "asks", "inspect": True}, follow=True) as watched:
                page = await watched.until(lambda p: states(p).get("running") and settled(p), "all is read")
                assert sum(states(page).values()) == 14
        # If it may not, then it saw no task begin: those that are still held count as reserved.
        async with watch(config, follow=True) as watched:
            await watched.following()
            page = await watched.until(lambda p: states(p)["scheduled"] == 2, "held messages were read")
            assert sum(n for state, n in states(page).items() if state != "running") == 14 - acknowledged
        worker.kill()


async def test_what_is_held_is_known_at_each_moment_of_the_next_look(redis_url: str, project: Any) -> None:
    """Those that were acknowledged meanwhile too, until the look has ended: a scrape may come at any time."""
    project.worker("-P", "threads", "-c", "1", "--prefetch-multiplier", "1")
    first, second = (project.send("slow_late", seconds)[0] for seconds in (2.0, 60.0))
    source = Source(name="test", adapter="celery", url=lambda: redis_url, options=CeleryOptions())
    async with connect(source) as client, asyncio.timeout(30):

        async def look() -> list[str]:
            looking = asyncio.create_task(client.unacked.refresh())
            while not looking.done():
                assert all(delivered > 0 for _, delivered in client.unacked.held)
                await asyncio.sleep(0)
            await looking
            return [message.id for message, _ in client.unacked.held]

        for expected in [first], [second]:
            while await look() != expected:
                await asyncio.sleep(0.05)
