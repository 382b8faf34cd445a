"""The conformance kit can fail: adapters with one fault each, on a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py
import taskq_exporter_redis as redis

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import (
    AdapterError,
    Capability,
    Finding,
    Options,
    Outcome,
    QueueStats,
    Reason,
    Snapshot,
    Source,
    State,
    hookimpl,
)
from taskq_exporter.testing import AdapterConformance, Server, World, checks, watch

Hooks = dict[str, Callable[..., Any]]
READY = Capability(family="taskq_tasks", state="ready")
LEFT_OPEN: list[Any] = []
#: Of a fault that leaves a client behind in a loop that has ended.
LEAKS = (
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[redis.RedisClient]:
    async with redis.connect(source) as client:
        yield client


async def collect(source: Source, client: redis.RedisClient) -> Snapshot:
    return await count(client)


async def count(client: redis.RedisClient, **more: Any) -> Snapshot:
    n = await client.command("LLEN", "jobs")
    queue = QueueStats(name="jobs", tasks={State.READY: n, **more.pop("tasks", {})})
    return Snapshot(**{"queues": [queue], "capabilities": [READY], **more})


def grants() -> str:
    return "ACL SETUSER taskq_exporter on ~jobs +llen +hello +select"


GOOD: Hooks = {"connect": connect, "collect": collect, "grants": grants}


class Kit(AdapterConformance):
    """The kit over the adapter under test; not collected, because its name does not start with Test."""

    adapter = "faulty"
    timeout = 1.0


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hooks], Kit]:
    def make(hooks: Hooks) -> Kit:
        plugin = SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})
        for module in (checks, watch_module()):
            monkeypatch.setattr(module, "Adapters", lambda: Adapters({"faulty": plugin}))
        return Kit()

    return make


def watch_module() -> Any:
    import sys

    return sys.modules[watch.__module__]


@pytest.fixture
def world(redis_url: str) -> World:
    with redis_py.Redis.from_url(redis_url) as client:
        client.rpush("jobs", "a", "b")
    return World(url=redis_url, tasks={"jobs": {"ready": 2}})


CHECKS = sorted(
    name
    for name in vars(AdapterConformance)
    if name.startswith("test_") and not name.endswith(("_server", "entry_point", "diagnose", "work"))
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_good_adapter_passes(check: str, kit: Callable[[Hooks], Kit], world: World) -> None:
    bound = getattr(kit(GOOD), check)
    bound() if check == "test_unknown_option" else bound(world)


# --- one fault each


async def miscounts(source: Source, client: redis.RedisClient) -> Snapshot:
    return await count(client, queues=[QueueStats(name="jobs", tasks={State.READY: 3})])


async def invents(source: Source, client: redis.RedisClient) -> Snapshot:
    return await count(client, tasks={State.FAILED: 0})


async def hides(source: Source, client: redis.RedisClient) -> Snapshot:
    return await count(client, capabilities=[READY, Capability(family="taskq_no_such", state="")])


async def contradicts(source: Source, client: redis.RedisClient) -> Snapshot:
    unable = Capability(family="taskq_tasks", state="failed", reason="option")
    return await count(client, tasks={State.FAILED: 0}, capabilities=[READY, unable])


async def says_twice(source: Source, client: redis.RedisClient) -> Snapshot:
    queue = QueueStats(name="jobs", tasks={State.READY: 2})
    return await count(client, queues=[queue, queue])


async def says_minus(source: Source, client: redis.RedisClient) -> Snapshot:
    return await count(client, tasks={State.READY: -1})


async def writes(source: Source, client: redis.RedisClient) -> Snapshot:
    await client.command("SET", "seen", "yes")
    return await count(client)


async def renews_a_ttl(source: Source, client: redis.RedisClient) -> Snapshot:
    await client.command("PEXPIRE", "jobs", "3600000")
    return await count(client)


async def opens(source: Source, client: redis.RedisClient) -> Snapshot:
    LEFT_OPEN.append(socket.socket())
    return await count(client)


async def spawns(source: Source, client: redis.RedisClient) -> Snapshot:
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    LEFT_OPEN.append(SimpleNamespace(close=stop.set))
    return await count(client)


@asynccontextmanager
async def connect_without_close(source: Source) -> AsyncIterator[redis.RedisClient]:
    LEFT_OPEN.append(socket.socket())
    async with redis.connect(source) as client:
        yield client


@asynccontextmanager
async def connect_telling(source: Source) -> AsyncIterator[redis.RedisClient]:
    async with redis.connect(source) as client:
        try:
            await client.command("LLEN", "jobs")
        except AdapterError as error:
            raise AdapterError(error.reason, f"cannot read {source.url()}") from None
        yield client


@asynccontextmanager
async def connect_plainly(source: Source) -> AsyncIterator[redis_py.Redis]:
    with redis_py.Redis.from_url(source.url(), socket_timeout=1) as client:
        client.ping()
        yield client


async def ignores_cancellation(source: Source, client: redis.RedisClient) -> Snapshot:
    for _ in range(30):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            continue
    return await count(client)


async def asks_for_more(source: Source, client: redis.RedisClient) -> Snapshot:
    await client.command("LLEN", "other")
    return await count(client)


async def shares(source: Source, client: redis.RedisClient) -> Snapshot:
    """What several sources put into one place."""
    LEFT_OPEN.append(SimpleNamespace(close=lambda: None))
    before = len(LEFT_OPEN)
    await asyncio.sleep(0.02)
    return await count(client, tasks={State.READY: 2 + len(LEFT_OPEN) - before})


async def says_nothing() -> list[Finding]:
    return [Finding(level="note", text="")]


@pytest.fixture
def _closed() -> Any:
    LEFT_OPEN.clear()
    yield
    for thing in LEFT_OPEN:
        thing.close()
    LEFT_OPEN.clear()


@pytest.mark.usefixtures("_closed")
@pytest.mark.parametrize(
    ("check", "hooks", "why"),
    [
        ("counts", {"collect": miscounts}, "3"),
        ("counts", {"connect": connect_telling, "collect": invents, "grants": grants}, None),
        ("capabilities", {"collect": invents}, "reported, but not declared"),
        ("capabilities", {"collect": hides}, "no family"),
        ("capabilities", {"collect": contradicts}, "not declared|not able"),
        ("records", {"collect": says_twice}, "several records of"),
        ("page", {"collect": says_minus}, "bug"),
        ("concurrent_collects", {"collect": shares}, ""),
        ("no_growth", {"collect": opens}, "sockets or files grow"),
        ("no_growth", {"collect": spawns}, "threads grow"),
        ("no_growth", {"connect": connect_without_close}, "leaves something open"),
        ("cancellation", {"connect": connect_without_close}, "leaves something open"),
        pytest.param("cancellation", {"collect": ignores_cancellation}, "goes on|leaves", marks=LEAKS),
        ("no_secret", {"connect": connect_telling}, "hunter2"),
        ("no_secret", {"connect": connect_plainly}, "raise AdapterError"),
        ("read_only", {"collect": writes}, "seen"),
        ("read_only", {"collect": renews_a_ttl}, "jobs"),
        ("grants", {"collect": asks_for_more}, "missing right"),
        ("diagnose", {"diagnose": says_nothing}, "assert"),
    ],
)
def test_a_fault_is_found(check: str, hooks: Hooks, why: str | None, kit: Callable[[Hooks], Kit], world: World) -> None:
    faulty = kit({**GOOD, **hooks})
    run = getattr(faulty, f"test_{check}")
    if why is None:  # this fault is for another check to find
        run(world)
        return
    with pytest.raises((AssertionError, BaseExceptionGroup)) as caught:
        run(world)
    assert caught.match(why) if why else caught


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
