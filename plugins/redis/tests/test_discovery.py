"""Names are found beside the scrapes, and a scrape waits for them once at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
import redis
from taskq_exporter_redis import Discovery, connect, escape_glob, scan

from taskq_exporter.api import AdapterError, Reason, Source


def source(url: str) -> Source:
    return Source(name="test", adapter="test", url=lambda: url)


def reason(discovery: Discovery) -> Reason | None:
    return discovery.problem.reason if discovery.problem else None


async def test_scan_finds_every_key_of_the_type_in_slices(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.mset({f"app[1]:{i}": i for i in range(3000)} | {"app1:x": 1})
        admin.xadd("app[1]:stream", {"a": 1})
    async with connect(source(redis_url)) as client:
        pattern = escape_glob("app[1]:") + "*"
        assert len({key async for key in scan(client, pattern)}) == 3001
        assert client.commands_sent > 2
        assert {key async for key in scan(client, pattern, "stream")} == {b"app[1]:stream"}
        with pytest.raises(AdapterError) as raised:
            _ = [key async for key in scan(client, pattern, count=10, slices=3)]
        assert raised.value.reason is Reason.COST


async def test_names_waits_for_the_first_round_only() -> None:
    go = asyncio.Event()

    async def refresh() -> Iterable[str]:
        await go.wait()
        go.clear()
        return ["a", "b"]

    async with Discovery(refresh, every=0) as discovery:
        assert await discovery.names(0.01) == frozenset()
        assert reason(discovery) is Reason.TIMEOUT
        go.set()
        assert await discovery.names(5) == {"a", "b"}
        assert reason(discovery) is None
        started = time.monotonic()  # the second round hangs, and nobody waits for it
        assert await discovery.names(5) == {"a", "b"}
        assert time.monotonic() - started < 1


async def test_a_failed_round_keeps_the_names_and_says_why() -> None:
    rounds: list[Exception | list[str]] = [["a"], AdapterError(Reason.PERMISSION, "no"), KeyError("bug"), ["a", "b"]]
    done = asyncio.Event()
    seen = []

    async def refresh() -> Iterable[str]:
        seen.append(reason(discovery))
        if not rounds:
            done.set()
            await asyncio.Event().wait()
        result = rounds.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    discovery = Discovery(refresh, every=0)
    async with discovery:
        await done.wait()
        assert await discovery.names(0) == {"a", "b"}
    assert seen == [None, None, Reason.PERMISSION, Reason.BUG, None]


async def test_a_server_that_did_not_answer_is_soon_looked_at_again() -> None:
    rounds, again = 0, asyncio.Event()

    async def refresh() -> Iterable[str]:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await asyncio.sleep(0.1)
            raise AdapterError(Reason.TIMEOUT, "")
        again.set()
        return ["a"]

    async with asyncio.timeout(30), Discovery(refresh, every=0, rests=1_000_000) as discovery:
        await again.wait()
        await asyncio.sleep(0)
        assert await discovery.names(0) == {"a"}


async def test_leaving_ends_the_search() -> None:
    async def refresh() -> Iterable[str]:
        await asyncio.Event().wait()
        return []

    before = asyncio.all_tasks()
    async with Discovery(refresh, every=1):
        await asyncio.sleep(0)
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


async def test_leaving_ends_a_search_that_swallows_a_cancellation() -> None:
    """As the wait_for of Python 3.11 does where the reply and the cancellation come at once."""
    swallowed = 0

    async def refresh() -> Iterable[str]:
        nonlocal swallowed
        while not swallowed:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        return []

    async with asyncio.timeout(5):
        async with Discovery(refresh, every=3600):
            await asyncio.sleep(0)
    assert swallowed == 1


async def test_leaving_at_any_moment_of_a_round(redis_url: str) -> None:
    for steps in range(40):
        async with connect(source(redis_url)) as client:

            async def refresh() -> Iterable[str]:
                await client.pipeline([("PING",), ("PING",)])
                return ()

            async with asyncio.timeout(5):
                async with Discovery(refresh, every=3600):
                    for _ in range(steps):
                        await asyncio.sleep(0)


async def test_a_walk_through_many_keys_leaves_others_their_time(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq_exporter_redis.discovery.FAST_SLICES", 5)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with redis.Redis.from_url(redis_url) as server:
        server.mset({f"key{i}": "" for i in range(100)})
    async with connect(source(redis_url)) as client:
        monkeypatch.setattr("taskq_exporter_redis.discovery.asyncio", SimpleNamespace(sleep=sleep))
        assert len({key async for key in scan(client, "key*", count=5)}) == 100
    assert len(pauses) > 10
    assert pauses[:5] == [0] * 5
    assert min(pauses[5:]) > 0


async def test_a_search_rests_far_longer_than_it_takes() -> None:
    times: list[float] = []
    done = asyncio.Event()

    async def refresh() -> Iterable[str]:
        times.append(time.monotonic())
        await asyncio.sleep(0.1)
        times.append(time.monotonic())
        if len(times) == 4:
            done.set()
        return ["a"]

    async with asyncio.timeout(10), Discovery(refresh, every=0, rests=5):
        await done.wait()
    assert times[2] - times[1] >= 5 * 0.1
