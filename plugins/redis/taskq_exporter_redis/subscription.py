"""Messages of a Redis subscription in batches: many for each turn of the event loop.

What is not read yet is bounded: here by what one turn of the loop brings, in the server by its
`client-output-buffer-limit`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_redis.client import RedisClient
from taskq_exporter_redis.errors import errors

#: Seconds between PINGs: they show a dead connection, and how far behind we are: the answer waits behind all messages.
PING_EVERY = 0.5
#: Bytes of one read. One that fills less than half of it has caught up.
_BUFFER = 1 << 18


class Subscription(asyncio.BufferedProtocol):
    """An open subscription; read() it without pause. It takes over the transport of a connection of redis-py."""

    def __init__(self, transport: Any, timeout: float, gather: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self._gather = gather
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._buffer = memoryview(bytearray(_BUFFER))  # a view: asyncio's TLS writes to slices of it
        self._arrived = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._pinged: float | None = None  # when the PING that is not answered yet was sent
        self._dead = False
        self._ended = False
        #: Seconds from a PING to its answer: of the last one, or so far.
        self._roundtrip = 0.0
        #: Commands sent.
        self.commands = 0
        transport.set_protocol(self)

    @property
    def lag(self) -> float:
        """How many seconds of messages wait to be read."""
        waiting = 0.0 if self._pinged is None else self._loop.time() - self._pinged
        return max(self._roundtrip, waiting)

    async def read(self) -> list[tuple[bytes, bytes]]:
        """Channel and payload of each message that has come; none when a PING was answered and nothing else came.

        Raises:
            AdapterError: timeout, where the server hangs; connect, where it closed the connection; permission.
        """
        await self._arrived.wait()
        self._arrived.clear()
        messages = []
        with errors("PSUBSCRIBE"):
            try:
                while (reply := self._reader.gets()) is not False:
                    if type(reply) is not list:
                        raise ResponseError(str(reply))
                    if len(reply) == 4:
                        messages.append((reply[2], reply[3]))
                    elif reply[0] == b"pong":
                        self._answered()
            except hiredis.ProtocolError:
                raise AdapterError(Reason.PROTOCOL, "not a reply of Redis") from None
        if self._ended and not messages:
            raise self._end()
        if self._ended:
            self._arrived.set()
        return messages

    def open(self, *patterns: str) -> None:
        """Subscribe."""
        self._send(b"PSUBSCRIBE", *(pattern.encode() for pattern in patterns))

    async def ping(self) -> None:
        """Send PINGs until cancelled; end the connection where one is not answered."""
        while True:
            if self._pinged is None:
                self._pinged = self._loop.time()
                self._send(b"PING")
            elif self._loop.time() - self._pinged > self._timeout:
                self._dead = True
                self._transport.abort()
                return
            await asyncio.sleep(PING_EVERY)

    # --- of the transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the transport puts what it reads."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, and let more gather where that was all."""
        self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # takes any buffer
        self._arrived.set()
        gathers = self._gather and nbytes < _BUFFER // 2
        if gathers and self._gathering is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._gathering = self._loop.call_later(self._gather, self._resume)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Wake the reader."""
        if self._gathering is not None:
            self._gathering.cancel()
        self._ended = True
        self._arrived.set()

    def _resume(self) -> None:
        self._gathering = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _send(self, *words: bytes) -> None:
        self._transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # of any length
        self.commands += 1

    def _answered(self) -> None:
        if self._pinged is not None:
            self._roundtrip = self._loop.time() - self._pinged
            self._pinged = None

    def _end(self) -> AdapterError:
        if self._dead:
            return AdapterError(Reason.TIMEOUT, f"no answer to PING within {self._timeout:g} s")
        return AdapterError(
            Reason.CONNECT,
            "the server closed the subscription: it restarts, or we were too slow for its "
            "`client-output-buffer-limit pubsub`, which then should be raised",
        )


@asynccontextmanager
async def subscribe(
    client: RedisClient, *patterns: str, timeout: float, gather: float = 0.0
) -> AsyncIterator[Subscription]:
    """A subscription to the channels that match one of some patterns, on a connection of its own.

    Args:
        client: Whose server it is.
        patterns: Of PSUBSCRIBE.
        timeout: Seconds that the server may take to answer.
        gather: Seconds to let messages gather in the socket: to wake up for each one costs more than to read it.

    Raises:
        AdapterError: As `errors` says.
    """
    pool: Any = client.redis.connection_pool
    with errors("PSUBSCRIBE"):
        connection = await pool.get_connection()
    try:
        subscription = Subscription(connection._writer.transport, timeout, gather)
        subscription.open(*patterns)
        pings = asyncio.create_task(subscription.ping())
        try:
            yield subscription
        finally:
            pings.cancel()
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)
