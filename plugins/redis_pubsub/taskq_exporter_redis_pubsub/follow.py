"""Counts what is published. Messages are not kept by the server: those of a time without us are missing."""

from __future__ import annotations

import time
from collections.abc import Iterable

from taskq_exporter_redis import subscribe

from taskq_exporter.api import DropReason, Ledger, Source
from taskq_exporter_redis_pubsub.client import Client
from taskq_exporter_redis_pubsub.messages import Allocated, Published, UndecodableError, read
from taskq_exporter_redis_pubsub.names import (
    ALLOCATED,
    ALLOCATION_DURATION,
    ALLOCATIONS,
    LATENCY,
    MESSAGES,
    PATTERNS,
    PUBLISHED,
)

__all__ = ["Follower", "follow"]

#: Seconds behind from which on the times in messages tell more of us than of the server.
BEHIND = 1.0
_LEVELS = {True: "high", False: "normal", None: ""}


async def follow(source: Source, client: Client, ledger: Ledger) -> None:
    """Count until the connection ends.

    Raises:
        AdapterError: connect, timeout, permission; the core subscribes anew.
    """
    follower = Follower(source, client, ledger)
    told = 0
    async with subscribe(client.redis, *PATTERNS, timeout=source.timeout) as subscription:
        messages = await subscription.read()
        ledger.gap()
        ledger.counts("enqueued", "received")
        while True:
            follower.feed(messages, time.time(), behind=subscription.lag > BEHIND)
            ledger.following(subscription.lag)
            ledger.commands(subscription.commands - told)
            told = subscription.commands
            messages = await subscription.read()


class Follower:
    """From messages to the ledger."""

    def __init__(self, source: Source, client: Client, ledger: Ledger) -> None:
        self._source = source
        self._saw = client.saw
        self._ledger = ledger

    def feed(self, messages: Iterable[tuple[bytes, bytes]], now: float, *, behind: bool = False) -> None:
        """Count messages that came at `now` (Unix seconds), or are read late: channel and payload of each."""
        total = undecodable = 0
        for channel, payload in messages:
            total += 1
            try:
                message = read(channel, payload, now)
            except UndecodableError:
                undecodable += 1
                continue
            if self._source.queues.wants(message.queue) and self._source.tasks.wants(message.task):
                self._saw(message.queue)
                self._count(channel.decode(errors="replace"), message, None if behind else message.seconds)
        self._ledger.events(total)
        if undecodable:
            self._ledger.dropped(DropReason.DECODE, undecodable)

    def _count(self, channel: str, message: Published | Allocated, seconds: float | None) -> None:
        ledger, queue, task = self._ledger, message.queue, message.task
        if isinstance(message, Published):
            ledger.count(MESSAGES, (channel, PUBLISHED))
            if seconds is not None:
                ledger.observe(LATENCY, (channel,), seconds)
            if not message.again:
                ledger.enqueued(queue, task, _LEVELS[message.high])
            return
        ledger.count(MESSAGES, (channel, ALLOCATED))
        ledger.count(ALLOCATIONS, (queue, message.worker, message.method))
        if seconds is not None:
            ledger.observe(ALLOCATION_DURATION, (queue, message.method), seconds)
        ledger.received(queue, task, message.worker)
