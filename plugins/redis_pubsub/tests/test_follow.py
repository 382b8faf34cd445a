"""What is published is counted, whoever publishes what, and whatever happens to the connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pubsub_allocator import Allocator

from taskq_exporter.testing.watch import watch

MESSAGES = "taskq_redis_pubsub_messages_total"
LATENCY = "taskq_redis_pubsub_latency_seconds"
DROPPED = "taskq_source_events_dropped_total"


async def test_latency_by_the_times_in_messages(allocator: Allocator, source: dict[str, Any]) -> None:
    async with watch(source, follow=True) as watched:
        await watched.following()
        allocator.publish("t", "q", ago=100)
        allocator.publish("t", "q", ago=-100)  # its clock is ahead
        allocator.publish("t", "q", ago=7200)  # none
        allocator.allocate("t", "q", "w", ago=100)
        page = await watched.until(lambda p: p.total(MESSAGES) == 4, "four messages")
        openmetrics = await watched.openmetrics()
    assert page.by(f"{LATENCY}_bucket", "le") == {
        **dict.fromkeys(
            [("0.001",), ("0.005",), ("0.01",), ("0.025",), ("0.05",), ("0.1",), ("0.25",), ("0.5",), ("1.0",)], 1
        ),
        ("+Inf",): 2,
    }
    assert 100 <= page.total(f"{LATENCY}_sum") < 200
    assert page.total("taskq_redis_pubsub_allocation_duration_seconds_bucket", queue="q", le="0.1") == 0
    assert page.total("taskq_redis_pubsub_allocation_duration_seconds_count", queue="q", method="direct") == 1
    assert f"# TYPE {LATENCY} histogram\n" in openmetrics


async def test_a_follower_that_is_behind_knows_no_latency(
    allocator: Allocator, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq_exporter_redis_pubsub.follow.BEHIND", -1.0)  # it always is
    async with watch(source, follow=True) as watched:
        await watched.following()
        allocator.publish("t", "q")
        allocator.allocate("t", "q", "w")
        page = await watched.until(lambda p: p.total(MESSAGES) == 2, "two messages")
    assert not page.values(f"{LATENCY}_count")
    assert not page.values("taskq_redis_pubsub_allocation_duration_seconds_count")


async def test_anybody_may_publish_anything(allocator: Allocator, source: dict[str, Any]) -> None:
    async with watch({**source, "limits": {"channel": 2, "method": 2}}, follow=True) as watched:
        await watched.following()
        for payload in (b"", b"\xff", b"[" * 100_000, json.dumps({"data": "x" * (2 << 20)})):
            allocator.redis.publish("tasks:q", payload)
        for i in range(5):
            allocator.publish("t", f"q{i}")
            allocator.allocate("t", "q", "w", method=f"m{i}")
        page = await watched.until(lambda p: p.total(MESSAGES) == 10, "ten messages")
    assert page.by(DROPPED, "reason") == {("decode",): 4}
    assert page.by(MESSAGES, "channel") == {("tasks:q0",): 1, ("worker:w",): 5, ("_other",): 4}
    assert page.by("taskq_redis_pubsub_allocations_total", "method") == {("m0",): 1, ("m1",): 1, ("_other",): 3}
    assert page.value("taskq_source_follower_up") == 1


async def test_filters(allocator: Allocator, source: dict[str, Any]) -> None:
    chosen = {**source, "queues": {"exclude": ["tmp"]}, "tasks": {"exclude": ["noise"]}}
    async with watch(chosen, follow=True) as watched:
        await watched.following()
        allocator.publish("t", "tmp")
        allocator.publish("noise", "q")
        allocator.publish("t", "q")
        page = await watched.until(lambda p: p.total(MESSAGES) == 1, "one message")
    assert page.value("taskq_source_events_total") == 3
    assert page.by(MESSAGES, "channel") == {("tasks:q",): 1}


async def test_it_subscribes_anew(allocator: Allocator, source: dict[str, Any]) -> None:
    async with watch(source, follow=True) as watched:
        await watched.following()
        allocator.publish("t", "q")
        before = await watched.until(lambda p: p.total(MESSAGES) == 1, "one message")
        allocator.redis.client_kill_filter(_type="pubsub")
        await watched.until(
            lambda p: p.value("taskq_source_follower_restarts_total") and watched.runner.following, "it follows again"
        )
        allocator.publish("t", "q")
        page = await watched.until(lambda p: p.total(MESSAGES) == 2, "two messages")
    since = "taskq_source_counting_since_timestamp_seconds"
    assert page.value(since) > before.value(since)


async def test_counters_go_on_after_a_restart(allocator: Allocator, source: dict[str, Any], tmp_path: Path) -> None:
    for total in (1, 2):
        async with watch(source, follow=True, state_dir=tmp_path) as watched:
            await watched.following()
            allocator.publish("t", "q")
            page = await watched.until(lambda p, n=total: p.total(MESSAGES) == n, f"{total} messages")
        assert page.total(f"{LATENCY}_count") == total
