"""Celery's events as a Redis subscription brings them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from taskq_exporter_redis import RedisClient
from taskq_exporter_redis import Subscription as Messages
from taskq_exporter_redis import subscribe as subscribe_to

from taskq_exporter_celery.events import decode

#: Seconds to let messages gather: workers with many short tasks send thousands a second.
GATHER = 0.01


class Subscription:
    """An open subscription to events; read() it without pause."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    @property
    def commands(self) -> int:
        """Commands sent."""
        return self._messages.commands

    @property
    def lag(self) -> float:
        """How many seconds of messages wait to be read."""
        return self._messages.lag

    async def read(self) -> list[bytes]:
        """The messages that have come, perhaps none. Raises AdapterError where it ended."""
        return [payload for _, payload in await self._messages.read()]

    def decode(self, message: bytes) -> Sequence[Any]:
        """The events of a message."""
        return decode(message)


@asynccontextmanager
async def subscribe(client: RedisClient, pattern: str, timeout: float) -> AsyncIterator[Subscription]:
    """A subscription to the channels that match a pattern; `timeout` in seconds. Raises AdapterError."""
    async with subscribe_to(client, pattern, timeout=timeout, gather=GATHER) as messages:
        yield Subscription(messages)
