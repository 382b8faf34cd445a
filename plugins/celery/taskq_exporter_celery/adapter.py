"""The adapter's hooks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from taskq_exporter.api import Detected, Family, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_celery import broker as brokers
from taskq_exporter_celery import checks, unread
from taskq_exporter_celery.broker import Broker
from taskq_exporter_celery.families import FAMILIES
from taskq_exporter_celery.follower import Follower
from taskq_exporter_celery.inspection import Inspection
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.prefetch import PREFETCH, PrefetchFollower

#: Seconds that the first page with workers waits for their first answers.
FIRST_ANSWERS = 1.0


@hookimpl
def options() -> type[Options]:
    """The options of a celery source."""
    return CeleryOptions


@hookimpl
def families() -> Sequence[Family]:
    """What only Celery has."""
    return FAMILIES


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[Broker]:
    """A client of the broker."""
    return brokers.connect(source)


@hookimpl
async def collect(client: Broker) -> Snapshot:
    """Queues now."""
    snapshot = await client.collect()
    return replace(snapshot, findings=[*snapshot.findings, *unread.findings(snapshot, client.shared.follower)])


@hookimpl
async def follow(source: Source, client: Broker, ledger: Ledger) -> None:
    """Count events until the connection ends.

    Raises:
        AdapterError: connect, timeout, permission; the core subscribes anew.
    """
    # The ledger outlives a connection, and with it what is known of tasks in flight.
    kind = PrefetchFollower if source.wanted & PREFETCH else Follower
    follower = ledger.view if isinstance(ledger.view, Follower) else kind(source, ledger, time.time)
    ledger.view = follower
    inspection = Inspection(client, follower, ledger, source)
    told = 0
    async with client.subscribe() as subscription:
        try:
            messages = await subscription.read()
            follower.resume()
            client.shared.follower = follower
            await inspection.start(FIRST_ANSWERS)
            while True:
                follower.feed(messages, subscription.decode)
                follower.sweep()
                ledger.following(subscription.lag)
                ledger.commands(subscription.commands - told)
                told = subscription.commands
                messages = await subscription.read()
        finally:
            if client.shared.follower is follower:
                client.shared.follower = None
            await inspection.close()


@hookimpl
async def detect(env: Mapping[str, str]) -> Iterable[Detected]:
    """Brokers that the environment names."""
    return await checks.detect(env)


@hookimpl
async def diagnose(source: Source, client: Broker) -> Iterable[Finding]:
    """What is missing on the application's side."""
    return await checks.diagnose(source, client)


@hookimpl
def grants(source: Source) -> str:
    """What the source's user needs, in the words of its broker."""
    return str(brokers.kind_of(source.url()).grants(source))
