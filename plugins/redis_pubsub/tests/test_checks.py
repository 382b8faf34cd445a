"""What the operator is told."""

from __future__ import annotations

from typing import Any

import pytest
from pubsub_allocator import Allocator, Worker
from taskq_exporter_redis_pubsub import adapter
from taskq_exporter_redis_pubsub.options import PubsubOptions

from taskq_exporter.api import AdapterError, Reason, Source


async def findings(url: str) -> dict[str, str]:
    source = Source(name="test", adapter="redis_pubsub", url=lambda: url, options=PubsubOptions())
    async with adapter.connect(source) as client:
        return {found.text: found.level for found in await adapter.diagnose(client)}


async def test_diagnose(allocator: Allocator, redis_url: str) -> None:
    assert "no worker has registered below workers:" in await findings(redis_url)
    allocator.register("w", "q")
    allocator.store("q", 3)
    found = await findings(redis_url)
    assert found["worker w is registered, and nobody listens to its channel"] == "note"
    assert found["q: 3 tasks wait, and nobody listens to tasks:q"] == "problem"
    with Worker(redis_url, "w", "q"):
        assert set((await findings(redis_url)).values()) == {"ok"}


async def test_detects_a_registered_worker(allocator: Allocator, redis_url: str) -> None:
    env = {"REDIS_URL": redis_url}
    assert await adapter.detect({}) == []
    allocator.redis.hset("workers:other", "x", "y")
    assert await adapter.detect(env) == []
    allocator.register("w", "q")
    (found,) = await adapter.detect(env)
    assert (found.name, found.url) == ("redis_pubsub", redis_url)


async def test_detect_says_why_it_cannot_look(redis_own: Any) -> None:
    redis_own.stop()
    with pytest.raises(AdapterError) as raised:
        await adapter.detect({"REDIS_URL": redis_own.url})
    assert raised.value.reason is Reason.CONNECT


def test_grants_are_of_its_keys_and_channels() -> None:
    line = adapter.grants()
    assert '"(~queue:* &tasks:* &worker:* -@all +llen ' in line
    assert '"(~workers:* -@all +hmget)"' in line
    assert "publish" not in line.replace("+psubscribe", "")
