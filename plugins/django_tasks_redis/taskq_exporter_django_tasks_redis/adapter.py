"""The hooks of the adapter for django-tasks-redis. Verified with 0.4.0, and in part with 0.3.0 and 0.2.1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from taskq_exporter.api import Detected, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_django_tasks_redis import checks
from taskq_exporter_django_tasks_redis import collect as collecting
from taskq_exporter_django_tasks_redis.collect import Client
from taskq_exporter_django_tasks_redis.follower import Follower
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions


@hookimpl
def options() -> type[Options]:
    """The options beside the core's."""
    return DjangoTasksRedisOptions


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[Client]:
    """A connection to the Redis server. Raises AdapterError(connect) where the URL is none."""
    return collecting.connect(source)


@hookimpl
async def collect(client: Client) -> Snapshot:
    """Queues, workers and totals now. Raises AdapterError."""
    return await collecting.collect(client)


@hookimpl
async def follow(client: Client, ledger: Ledger) -> None:
    """Count finished tasks until cancelled. Raises AdapterError."""
    await Follower(client.redis, client.keys, client.options, ledger).run()


@hookimpl
async def detect(env: Mapping[str, str]) -> Iterable[Detected]:
    """Backends that have stored tasks in the database of REDIS_URL. Raises AdapterError."""
    return await checks.detect(env)


@hookimpl
async def diagnose(client: Client) -> Iterable[Finding]:
    """What `check` says. Raises AdapterError."""
    return await checks.diagnose(client)


@hookimpl
def grants(source: Source) -> str:
    """The ACL line of a user who may read one backend, and nothing else."""
    return checks.grants(source)
