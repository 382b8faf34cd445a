"""Messages of a Redis subscription in batches: many for each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.exceptions import ResponseError
from taskq_exporter_redis import RedisClient, errors

from taskq_exporter.api import AdapterError, Reason

#: Seconds between PINGs: they show a dead connection, and how far behind we are: the answer waits behind all messages.
PING_EVERY = 0.5
_CHUNK = 1 << 18


class Subscription:
    """An open subscription; read() it without pause."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._pinged: float | None = None  # when the PING that is not answered yet was sent
        self._dead = False
        #: Seconds from a PING to its answer: of the last one, or so far.
        self._roundtrip = 0.0
        #: Commands sent.
        self.commands = 0

    @property
    def lag(self) -> float:
        """How many seconds of messages wait to be read."""
        waiting = 0.0 if self._pinged is None else self._loop.time() - self._pinged
        return max(self._roundtrip, waiting)

    async def read(self) -> list[bytes]:
        """The messages that have come; an empty list when a PING was answered and nothing else came.

        Raises:
            AdapterError: timeout, where the server hangs; connect, where it closed the connection; permission.
        """
        with errors("PSUBSCRIBE"):
            data = await self._connection._reader.read(_CHUNK)
            if not data:
                if self._dead:
                    raise AdapterError(Reason.TIMEOUT, f"no answer to PING within {self._timeout:g} s")
                raise AdapterError(
                    Reason.CONNECT,
                    "the server closed the subscription: it restarts, or we were too slow for its "
                    "`client-output-buffer-limit pubsub`, which then should be raised",
                )
            self._reader.feed(data)
            payloads = []
            try:
                while (reply := self._reader.gets()) is not False:
                    if type(reply) is not list:
                        raise ResponseError(str(reply))
                    if len(reply) == 4:
                        payloads.append(reply[3])
                    elif reply[0] == b"pong":
                        self._answered()
            except hiredis.ProtocolError:
                raise AdapterError(Reason.PROTOCOL, "not a reply of Redis") from None
        return payloads

    async def open(self, pattern: str) -> None:
        """Subscribe. The messages that come with the answer are for read(): redis-py's parser must not take them."""
        with errors("PSUBSCRIBE"):
            await self._connection.send_command("PSUBSCRIBE", pattern)
        self.commands += 1

    async def ping(self) -> None:
        """Send PINGs until cancelled; end the connection where one is not answered."""
        while True:
            if self._pinged is None:
                self._pinged = self._loop.time()
                self._connection._writer.write(b"*1\r\n$4\r\nPING\r\n")
                self.commands += 1
            elif self._loop.time() - self._pinged > self._timeout:
                self._dead = True
                self._connection._writer.transport.abort()
                return
            await asyncio.sleep(PING_EVERY)

    def _answered(self) -> None:
        if self._pinged is not None:
            self._roundtrip = self._loop.time() - self._pinged
            self._pinged = None


@asynccontextmanager
async def subscribe(client: RedisClient, pattern: str, timeout: float) -> AsyncIterator[Subscription]:
    """A subscription to the channels that match a pattern, on a connection of its own.

    Args:
        client: Whose server it is.
        pattern: Of PSUBSCRIBE.
        timeout: Seconds that the server may take to answer.

    Raises:
        AdapterError: As `errors` says.
    """
    pool: Any = client.redis.connection_pool
    with errors("PSUBSCRIBE"):
        connection = await pool.get_connection()
    try:
        subscription = Subscription(connection, timeout)
        await subscription.open(pattern)
        pings = asyncio.create_task(subscription.ping())
        try:
            yield subscription
        finally:
            pings.cancel()
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)
