"""Messages of channels by pattern, and what ends a subscription."""

from __future__ import annotations

import asyncio

import pytest
import redis
from taskq_exporter_redis import RedisClient, Subscription, subscribe

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter.testing import Server


async def messages(subscription: Subscription, n: int) -> list[tuple[bytes, bytes]]:
    """The next n or more."""
    found: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(20):
        while len(found) < n:
            found += await subscription.read()
    return found


async def opened(subscription: Subscription) -> None:
    """The first answer to a PING comes after the patterns are subscribed to."""
    async with asyncio.timeout(20):
        await subscription.read()


@pytest.mark.parametrize("gather", [0.0, 0.01])
async def test_several_patterns_bring_channels_and_payloads(redis_url: str, gather: float) -> None:
    client = RedisClient(redis_url, timeout=10)
    async with subscribe(client, "a:*", "b:*", timeout=10, gather=gather) as subscription:
        await opened(subscription)
        with redis.Redis.from_url(redis_url) as publisher:
            publisher.publish("c:1", "not ours")
            large = b"x" * (1 << 20)
            for i in range(100):
                publisher.publish(f"a:{i}", str(i))
            publisher.publish("b:1", large)
        found = await messages(subscription, 101)
        assert subscription.lag >= 0
    assert found == [*((f"a:{i}".encode(), str(i).encode()) for i in range(100)), (b"b:1", large)]
    await client.aclose()


async def test_a_server_that_ends_it_is_an_error(redis_own: Server) -> None:
    client = RedisClient(redis_own.url, timeout=10)
    async with subscribe(client, "a:*", timeout=10) as subscription:
        await opened(subscription)
        redis_own.stop()
        with pytest.raises(AdapterError) as raised:
            await messages(subscription, 1)
    assert raised.value.reason is Reason.CONNECT
    await client.aclose()


async def test_a_pattern_that_is_not_allowed_is_named(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser("u", enabled=True, passwords=["+p"], commands=["+@all"], channels=["a:*"])
    client = RedisClient(redis_url.replace("redis://", "redis://u:p@"), timeout=10)
    with pytest.raises(AdapterError, match="PSUBSCRIBE") as raised:
        async with subscribe(client, "a:*", "b:*", timeout=10) as subscription:
            await messages(subscription, 1)
    assert raised.value.reason is Reason.PERMISSION
    await client.aclose()
