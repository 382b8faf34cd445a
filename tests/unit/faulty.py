"""An adapter that is good, for tests that give it one fault each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import taskq_exporter_redis as redis

from taskq_exporter.api import (
    Capability,
    QueueStats,
    Snapshot,
    Source,
    State,
)
from taskq_exporter.testing import AdapterConformance

Hooks = dict[str, Callable[..., Any]]
READY = Capability(family="taskq_tasks", state="ready")


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
