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
from faulty import GOOD, READY, Hooks, Kit, count, grants

from taskq_exporter.api import (
    AdapterError,
    Capability,
    Finding,
    QueueStats,
    Snapshot,
    Source,
    State,
)
from taskq_exporter.testing import AdapterConformance, World, checks

LEFT_OPEN: list[Any] = []
#: Of a fault that leaves a client behind in a loop that has ended.
LEAKS = (
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


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
def test_a_fault_is_found(
    check: str,
    hooks: Hooks,
    why: str | None,
    kit: Callable[[Hooks], Kit],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if why is not None:
        monkeypatch.setattr(checks, "SETTLE", 0.3)  # what is left open stays so, however long one waits
    faulty = kit({**GOOD, **hooks})
    run = getattr(faulty, f"test_{check}")
    if why is None:  # this fault is for another check to find
        run(world)
        return
    with pytest.raises((AssertionError, BaseExceptionGroup)) as caught:
        run(world)
    assert caught.match(why) if why else caught
