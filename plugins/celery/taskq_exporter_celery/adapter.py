"""The adapter's hooks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from taskq_exporter.api import Detected, Family, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_celery import broker as brokers
from taskq_exporter_celery import checks
from taskq_exporter_celery import collect as collecting
from taskq_exporter_celery.broker import Broker
from taskq_exporter_celery.follower import Follower
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.pubsub import subscribe


@hookimpl
def options() -> type[Options]:
    """The options of a celery source."""
    return CeleryOptions


@hookimpl
def families() -> Sequence[Family]:
    """What only Celery has."""
    return collecting.FAMILIES


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[Broker]:
    """A client of the broker."""
    return brokers.connect(source)


@hookimpl
async def collect(source: Source, client: Broker) -> Snapshot:
    """Queues now."""
    return await collecting.collect(source, client)


@hookimpl
async def follow(source: Source, client: Broker, ledger: Ledger) -> None:
    """Count events until the connection ends.

    Raises:
        AdapterError: connect, timeout, permission; the core subscribes anew.
    """
    # The ledger outlives a connection, and with it what is known of tasks in flight.
    follower = ledger.view if isinstance(ledger.view, Follower) else Follower(source, ledger, time.time)
    ledger.view = follower
    told = 0
    async with subscribe(client.redis, client.layout.events, source.timeout) as subscription:
        try:
            payloads = await subscription.read()
            follower.resume()
            client.shared.follower = follower
            while True:
                follower.feed(payloads)
                follower.sweep()
                ledger.following(subscription.lag)
                ledger.commands(subscription.commands - told)
                told = subscription.commands
                payloads = await subscription.read()
        finally:
            if client.shared.follower is follower:
                client.shared.follower = None


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
    """The ACL line of the source's user."""
    return checks.grants(source)
