"""The hooks of the adapter for TaskFlow, AdityaPardikar/distributed-task-queue-system, as it was in March 2026."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from taskq_exporter.api import Detected, Family, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_taskflow import checks
from taskq_exporter_taskflow import client as clients
from taskq_exporter_taskflow import collect as collecting
from taskq_exporter_taskflow import follow as following
from taskq_exporter_taskflow.client import Client
from taskq_exporter_taskflow.names import FAMILIES
from taskq_exporter_taskflow.options import TaskflowOptions


@hookimpl
def options() -> type[Options]:
    """The options beside the core's."""
    return TaskflowOptions


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[Client]:
    """Clients of both servers."""
    return clients.connect(source)


@hookimpl
async def collect(source: Source, client: Client) -> Snapshot:
    """What is true now. Raises AdapterError where neither server can be read."""
    return await collecting.collect(source, client)


@hookimpl
async def follow(source: Source, client: Client, ledger: Ledger) -> None:
    """Count what ends."""
    await following.follow(source, client, ledger)


@hookimpl
async def detect(env: Mapping[str, str]) -> Iterable[Detected]:
    """The source that DATABASE_URL and REDIS_URL name."""
    return await checks.detect(env)


@hookimpl
async def diagnose(source: Source, client: Client) -> Iterable[Finding]:
    """What `check` says."""
    return await checks.diagnose(source, client)


@hookimpl
def grants(source: Source) -> str:
    """The rights in both servers."""
    return checks.grants(source)


@hookimpl
def families() -> Sequence[Family]:
    """What only TaskFlow has."""
    return FAMILIES
