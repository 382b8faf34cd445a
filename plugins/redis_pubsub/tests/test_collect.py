"""Queues and workers as they are now, and what is left out where it is not known."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from pubsub_allocator import Allocator, Worker
from taskq_exporter_redis_pubsub import adapter
from taskq_exporter_redis_pubsub.workers import worker_of

from taskq_exporter.testing.stores import RedisStore
from taskq_exporter.testing.watch import watch


async def test_a_queue_that_a_message_names_is_asked_about_at_once(
    allocator: Allocator, source: dict[str, Any]
) -> None:
    rare = {**source, "worker_interval": "1h", "discovery_interval": "1h"}
    async with watch(rare, follow=True) as watched:
        await watched.following()
        assert not (await watched.page()).values("taskq_tasks")
        allocator.store("new", 3)
        allocator.publish("t", "new")
        page = await watched.until(lambda p: p.values("taskq_tasks", queue="new"), "the queue is there")
        assert page.value("taskq_tasks", queue="new", state="ready") == 3
        allocator.redis.delete("queue:new")  # as if a worker had taken the last
        page = await watched.page()
        assert page.value("taskq_tasks", queue="new", state="ready") == 0


async def test_queues_are_found(allocator: Allocator, source: dict[str, Any], redis_url: str) -> None:
    allocator.store("stored", 2)
    allocator.redis.set("queue:text", "no list")
    with Worker(redis_url, "nobody", "heard"):
        async with watch({**source, "queues": {"expected": ["hoped"]}}) as watched:
            page = await watched.until(lambda p: p.values("taskq_tasks", queue="heard"), "all are found")
    ready = {("stored",): 2, ("heard",): 0, ("hoped",): 0}
    assert page.by("taskq_tasks", "queue") == ready
    assert page.by("taskq_queue_consumers", "queue") == {("stored",): 0, ("heard",): 1, ("hoped",): 0}
    assert page.value("taskq_source_problems") == 0


async def test_queues_that_nobody_wants_take_no_room(allocator: Allocator, source: dict[str, Any]) -> None:
    with allocator.redis.pipeline() as pipe:
        for i in range(2_500):
            pipe.rpush(f"queue:tmp.{i:04}", "task")
        pipe.execute()
    allocator.store("wanted", 1)
    async with watch({**source, "queues": {"exclude": ["tmp.*"]}}) as watched:
        page = await watched.page()
    assert page.by("taskq_tasks", "queue") == {("wanted",): 1}
    async with watch({**source, "name": "all"}) as watched:
        page = await watched.page()
    assert len(page.values("taskq_tasks")) == 1_000
    assert page.value("taskq_source_errors_total", reason="cost") == 1


async def test_slots_are_told_where_all_that_listen_say_how_many(
    allocator: Allocator, source: dict[str, Any], redis_url: str
) -> None:
    allocator.register("old", "q", pool_size=None)
    allocator.register("new", "q", pool_size=4)
    slots, able = "taskq_queue_slots", "taskq_source_capability"
    async with watch(source) as watched:
        with Worker(redis_url, "new"):
            page = await watched.page()
            assert page.by(slots, "queue") == {("q",): 4}
            assert page.value(able, family=slots, reason="none") == 1
            with Worker(redis_url, "old"):
                page = await watched.page()
                assert not page.values(slots)
                assert page.value(able, family=slots, reason="backend") == 0


async def test_what_workers_run(allocator: Allocator, source: dict[str, Any], redis_url: str) -> None:
    allocator.register("w:1", "q")
    allocator.redis.set("workers:count", 1)  # of another system
    allocator.redis.hset("workers:other", "x", "y")
    with Worker(redis_url, "w:1", "q"):
        async with watch(source) as watched:

            def running(n: int) -> Any:
                return lambda p: p.value("taskq_worker_tasks", worker="w:1", state="running") == n

            page = await watched.until(running(0), "it is idle")
            assert page.value("taskq_workers", state="idle") == 1
            allocator.run("w:1", 3)
            page = await watched.until(running(3), "it runs three")
            assert page.value("taskq_workers", state="busy") == 1
            assert page.value("taskq_source_problems") == 0
    assert page.by("taskq_worker_up", "worker") == {("w:1",): 1}


@pytest.mark.parametrize(
    ("right", "absent"),
    [
        ("+pubsub|numsub", ["taskq_queue_consumers", "taskq_queue_slots", "taskq_worker_up", "taskq_workers"]),
        ("+hmget", ["taskq_workers", "taskq_worker_up", "taskq_worker_slots"]),
        ("+pubsub|channels", ["taskq_worker_tasks"]),
        ("+llen", ["taskq_tasks"]),
    ],
)
async def test_a_right_that_is_missing_costs_its_part(
    allocator: Allocator, source: dict[str, Any], redis_url: str, right: str, absent: list[str]
) -> None:
    allocator.register("w", "q")
    allocator.store("q", 2)
    line = shlex.join(w.replace(f" {right}", "") for w in shlex.split(adapter.grants(), comments=True))
    url = RedisStore().grant(redis_url, line)
    async with watch({**source, "url": url}) as watched:
        page = await watched.page()
    assert page.value("taskq_source_up") == 1
    assert page.value("taskq_source_problems") == 1
    assert page.value("taskq_source_errors_total", reason="permission") == 1
    assert right == "+llen" or page.value("taskq_tasks", queue="q", state="ready") == 2
    assert [family for family in absent if page.values(family)] == []
    able = page.by("taskq_source_capability", "family", reason="permission")
    assert {(family,) for family in absent} <= {*able}


def test_the_queues_of_a_worker_in_any_form() -> None:
    for text in (b'["a", "b:c"]', b"['a', 'b:c']", b"a,b:c", b'["a", "b:c", 7, "", "a"]'):
        worker = worker_of("w", (b"w", text, b"active", b"4", None), True, {})
        assert worker is not None
        assert worker.queues == ("a", "b:c")
    for text in (b"", b"{", b"[" * 100_000, b"7", b"x" * 100_000):
        worker = worker_of("w", (b"w", text, b"active", b"-1", b"never"), None, None)
        assert worker is not None
        assert [len(queue) < 5 for queue in worker.queues] in ([], [True])
        assert (worker.stats.slots, worker.stats.started, worker.stats.state, worker.stats.up) == (None,) * 4
