"""The conformance kit can fail, too, of followers, of servers that go, and of what the world can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py
import taskq_exporter_redis as redis
from faulty import GOOD, READY, Hooks, Kit, count, grants

from taskq_exporter.api import (
    AdapterError,
    Options,
    Outcome,
    QueueStats,
    Reason,
    Snapshot,
    Source,
    State,
)
from taskq_exporter.testing import Server, World

# --- the follower


def follower(*, each: int = 1, started: int | None = None) -> Callable[..., Any]:
    """One that counts how long a list is, `each` times too much."""

    async def follow(client: redis.RedisClient, ledger: Any) -> None:
        ledger.counts("started", "finished")
        ledger.cursor = await client.command("LLEN", "done")
        while True:
            ledger.following()
            n = await client.command("LLEN", "done")
            for _ in range(n - ledger.cursor):
                ledger.started("jobs", "t", n=1 if started is None else started)
                ledger.finished("jobs", "t", Outcome.SUCCEEDED, n=each)
                ledger.ran("jobs", "t", Outcome.SUCCEEDED, 0.1)
            ledger.cursor = n
            await asyncio.sleep(0.02)

    return follow


def working(world: World) -> World:
    def work() -> None:
        with redis_py.Redis.from_url(world.url) as client:
            for _ in range(4):
                client.rpush("done", "x")

    return World(url=world.url, tasks=world.tasks, work=work, finished={("jobs", "t", "succeeded"): 4})


def test_work_that_is_counted_exactly_passes(kit: Callable[[Hooks], Kit], world: World) -> None:
    kit({**GOOD, "follow": follower()}).test_work(working(world))


@pytest.mark.parametrize("fault", [follower(each=2), follower(started=2)])
def test_work_that_is_miscounted_is_found(fault: Any, kit: Callable[[Hooks], Kit], world: World) -> None:
    with pytest.raises(AssertionError):
        kit({**GOOD, "follow": fault}).test_work(working(world))


def test_a_follower_needs_work_to_prove_itself(kit: Callable[[Hooks], Kit], world: World) -> None:
    with pytest.raises(pytest.fail.Exception, match="work="):
        kit({**GOOD, "follow": follower()}).test_work(world)


# --- servers that go


async def blocks_the_loop(source: Source, client: redis.RedisClient) -> Snapshot:
    with redis_py.Redis.from_url(source.url(), socket_timeout=3, retry=None) as blocking:
        try:
            n = blocking.llen("jobs")
        except redis_py.TimeoutError:
            raise AdapterError(Reason.TIMEOUT, "too late") from None
    return Snapshot(queues=[QueueStats(name="jobs", tasks={State.READY: n})], capabilities=[READY])


async def remembers(source: Source, client: redis.RedisClient) -> Snapshot:
    try:
        return await count(client)
    except AdapterError:
        return Snapshot(queues=[QueueStats(name="jobs", tasks={State.READY: 2})], capabilities=[READY])


@pytest.mark.parametrize(
    ("check", "fault"), [("test_frozen_server", blocks_the_loop), ("test_stopped_server", remembers)]
)
def test_a_server_that_goes_and_comes(
    check: str, fault: Callable[..., Any], kit: Callable[[Hooks], Kit], redis_own: Server
) -> None:
    world = World(url=redis_own.url, server=redis_own, tasks={})
    getattr(kit(GOOD), check)(world)
    with pytest.raises(AssertionError):
        getattr(kit({**GOOD, "collect": fault}), check)(world)


# --- what the world can tell


def test_a_world_without_a_known_store_must_say_what_is_stored(kit: Callable[[Hooks], Kit]) -> None:
    async def nothing() -> Snapshot:
        return Snapshot()

    spool = kit({"collect": nothing, "grants": grants})
    world = World(url="spool:///var/spool/jobs", tasks={})
    with pytest.raises(pytest.fail.Exception, match="dump="):
        spool.test_read_only(world)
    with pytest.raises(pytest.fail.Exception, match="grant="):
        spool.test_grants(world)
    spool.test_read_only(World(url=world.url, tasks={}, dump=lambda: 1))
    spool.test_counts(world)


def test_an_adapter_that_is_not_installed_is_found() -> None:
    with pytest.raises(AssertionError):
        Kit().test_entry_point()


def test_options_that_take_anything_are_found(kit: Callable[[Hooks], Kit]) -> None:
    class Loose(Options, extra="allow"):
        pass

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        kit({**GOOD, "options": lambda: Loose}).test_unknown_option()
