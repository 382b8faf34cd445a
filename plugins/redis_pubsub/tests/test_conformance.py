"""The adapter contract, with workers that listen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pubsub_allocator import Allocator, Worker

from taskq_exporter.testing import AdapterConformance, World, start_redis
from taskq_exporter.testing.checks import scenario

FAMILIES = ("messages_total", "latency_seconds_count", "allocations_total", "allocation_duration_seconds_count")


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_redis("--appendonly", "yes") as server, Allocator(server.url) as allocator:
        allocator.register("w1", "emails", "reports", pool_size=4)
        allocator.register("w2", "emails", pool_size=2)
        allocator.register("w3", "emails", pool_size=8)
        allocator.register("w4", "slow", pool_size=1, status="draining")
        allocator.store("emails", 3)
        allocator.run("w1", 2)

        def work() -> None:
            for i in range(20):
                allocator.publish("send", "emails", priority=i % 10)
                allocator.allocate("send", "emails", "w1" if i % 2 else "w2", method="least_loaded")
            allocator.redis.publish("tasks:emails", "no JSON")

        with (
            Worker(server.url, "w1", "emails", "reports"),
            Worker(server.url, "w2", "emails"),
            Worker(server.url, "w4"),
        ):
            yield World(
                url=server.url,
                server=server,
                options={"worker_interval": "1s"},
                tasks={"emails": {"ready": 3}, "reports": {"ready": 0}, "slow": {"ready": 0}},
                series={
                    'taskq_queue_consumers{queue="emails"}': 2,
                    'taskq_queue_consumers{queue="reports"}': 1,
                    'taskq_queue_consumers{queue="slow"}': 0,
                    'taskq_queue_slots{queue="emails"}': 6,
                    'taskq_queue_slots{queue="reports"}': 4,
                    'taskq_queue_slots{queue="slow"}': 1,
                    'taskq_worker_up{worker="w1"}': 1,
                    'taskq_worker_up{worker="w3"}': 0,
                    'taskq_worker_slots{worker="w3"}': 8,
                    'taskq_worker_tasks{worker="w1",state="running"}': 2,
                    'taskq_worker_tasks{worker="w2",state="running"}': 0,
                    'taskq_worker_start_timestamp_seconds{worker="w1"}': 1767225600,
                    'taskq_workers{state="busy"}': 1,
                    'taskq_workers{state="idle"}': 1,
                    'taskq_workers{state="draining"}': 1,
                    'taskq_workers{state="offline"}': 1,
                },
                work=work,
            )


class TestConformance(AdapterConformance):
    adapter = "redis_pubsub"
    golden = Path(__file__).with_name("golden.prom")

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded

    @scenario
    async def test_work(self, world: World) -> None:
        """In place of what the kit asks for, which nobody publishes: what is published is counted to the unit."""
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            assert world.work
            await asyncio.to_thread(world.work)
            dropped = "taskq_source_events_dropped_total"
            page = await watched.until(lambda p: p.total(dropped) == 1, "the last message is counted")
        own = {name: page.by(f"taskq_redis_pubsub_{name}", "channel", "kind", "worker", "method") for name in FAMILIES}
        assert own == {
            "messages_total": {
                ("tasks:emails", "task_published", "", ""): 20,
                ("tasks:priority:emails", "task_published", "", ""): 4,
                ("worker:w1", "task_allocated", "", ""): 10,
                ("worker:w2", "task_allocated", "", ""): 10,
            },
            "latency_seconds_count": {("tasks:emails", "", "", ""): 20, ("tasks:priority:emails", "", "", ""): 4},
            "allocations_total": {("", "", "w1", "least_loaded"): 10, ("", "", "w2", "least_loaded"): 10},
            "allocation_duration_seconds_count": {("", "", "", "least_loaded"): 20},
        }
        assert page.by("taskq_tasks_enqueued_total", "queue", "task", "priority") == {
            ("emails", "send", "normal"): 16, ("emails", "send", "high"): 4, ("emails", "send", ""): 0
        }  # fmt: skip
        assert page.by("taskq_tasks_received_total", "queue", "task") == {("emails", "send"): 20}
        assert page.value("taskq_source_events_total") == 45
