"""The adapter contract, with real tasks of real workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis

from taskq_exporter.testing import AdapterConformance, World, start_redis


@pytest.fixture(scope="module")
def seeded(open_project: Callable[..., AbstractContextManager[Any]]) -> Iterator[World]:
    with start_redis() as server, open_project(server.url) as project, redis.Redis.from_url(server.url) as client:

        def until(condition: Callable[[], object]) -> None:
            deadline = time.monotonic() + 30
            while not condition():
                assert time.monotonic() < deadline
                time.sleep(0.02)

        project.send("ok", n=3, queue="held", countdown=3600)
        pool = ["-P", "threads", "-c", "1", "--prefetch-multiplier", "100"]
        holder = project.worker(*pool, name="gone@host", queues="held").ready()
        project.send("slow", 600, queue="held")
        project.send("ok", n=4, queue="held")
        until(lambda: client.hlen("unacked") == 3 + 4 and not client.exists("held"))
        holder.kill()
        project.send("ok", n=4)
        project.send("ok", n=2, priority=9)

        def work() -> None:
            worker = project.worker("-c", "2", queues="emails")
            project.send("ok", n=20, queue="emails")
            project.send("fail", n=5, queue="emails")
            until(lambda: not client.exists("emails") and client.hlen("unacked") == 3 + 4)
            worker.stop()

        yield World(
            url=server.url,
            server=server,
            tasks={
                "celery": {"ready": 6},
                "held": {"ready": 0, "scheduled": 3, "reserved": 4},
            },
            series={
                'taskq_tasks_by_priority{queue="celery",state="ready",priority="0"}': 4,
                'taskq_tasks_by_priority{queue="celery",state="ready",priority="9"}': 2,
            },
            work=work,
            finished={
                ("emails", "celery_project.ok", "succeeded"): 20,
                ("emails", "celery_project.fail", "failed"): 5,
            },
        )


@pytest.mark.xdist_group("celery_conformance")
class TestConformance(AdapterConformance):
    adapter = "celery"
    golden = Path(__file__).with_name("golden.prom")

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
