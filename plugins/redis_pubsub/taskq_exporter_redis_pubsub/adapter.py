"""The hooks of the adapter for task allocation over Redis pub/sub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from taskq_exporter.api import Detected, Family, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_redis_pubsub import checks
from taskq_exporter_redis_pubsub import client as clients
from taskq_exporter_redis_pubsub import collect as collecting
from taskq_exporter_redis_pubsub import follow as following
from taskq_exporter_redis_pubsub.client import Client
from taskq_exporter_redis_pubsub.names import FAMILIES
from taskq_exporter_redis_pubsub.options import PubsubOptions


@hookimpl
def options() -> type[Options]:
    """The options beside the core's."""
    return PubsubOptions


@hookimpl
def families() -> Sequence[Family]:
    """What only this allocator has."""
    return FAMILIES


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[Client]:
    """A connection to the Redis server."""
    return clients.connect(source)


@hookimpl
async def collect(client: Client) -> Snapshot:
    """Queues and workers now. Raises AdapterError."""
    return await collecting.collect(client)


@hookimpl
async def follow(source: Source, client: Client, ledger: Ledger) -> None:
    """Count what is published until the connection ends. Raises AdapterError."""
    await following.follow(source, client, ledger)


@hookimpl
async def detect(env: Mapping[str, str]) -> Iterable[Detected]:
    """The allocator in the database of REDIS_URL. Raises AdapterError."""
    return await checks.detect(env)


@hookimpl
async def diagnose(client: Client) -> Iterable[Finding]:
    """What `check` says. Raises AdapterError."""
    return await checks.diagnose(client)


@hookimpl
def grants() -> str:
    """The ACL line of a user who may read what the allocator keeps, and listen."""
    return checks.grants()
