"""A connection to a Redis server for reading: deadlines, no retries, one round trip for many commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from taskq_exporter.api import AdapterError, Reason, Source, sending
from taskq_exporter_redis.errors import adapter_error, describe, errors, is_missing, whole
from taskq_exporter_redis.sentinel import MasterPool, SentinelOptions, is_sentinel, parse_sentinel

Command = Sequence[str | bytes | int | float]

CLIENT_NAME = "taskq-exporter"
#: Bytes to read at once.
_CHUNK = 1 << 18
#: Its annotation is of a command of one word.
_pack: Callable[[tuple[str | bytes | int | float, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

#: An error reply with one of these reasons concerns every command, not the one that it answers.
_OF_THE_SERVER = {Reason.AUTH, Reason.BUSY, Reason.CONNECT, Reason.TIMEOUT}


class RedisClient:
    """What an adapter reads through. Replies are those of RESP2, as bytes, int, list or None."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        name: str = CLIENT_NAME,
        database: int | None = None,
        sentinel: SentinelOptions | None = None,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._pool = _pool(
            url,
            sentinel or SentinelOptions(),
            redis_connect_func=self._greet,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            **({} if database is None else {"db": database}),
        )
        #: redis-py's client of the same connections, for its helpers; use it inside `errors()`.
        self.redis: Redis = Redis(connection_pool=self._pool)
        #: Commands sent so far by command() and pipeline().
        self.commands_sent = 0
        #: Seconds from sending a pipeline to the first of its replies, last time; None before the first.
        self.roundtrip_seconds: float | None = None
        #: What HELLO told at the first connection, e.g. "redis" and "7.0.15"; "" where it is refused or unknown.
        self.server = ""
        self.server_version = ""

    async def command(self, *args: str | bytes | int | float) -> Any:
        """The reply to one command; None where its key or group does not exist.

        Raises:
            AdapterError: Of any reason that `errors` knows.
        """
        (reply,) = await self.replies([args])
        return reply

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        """As pipeline(), for commands that are of no use without each other: an error reply to one is raised."""
        replies = await self.pipeline(commands)
        for reply in replies:
            if isinstance(reply, AdapterError):
                raise reply
        return replies

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to `commands`, sent in one non-transactional round trip.

        A missing key or group is None; an error reply is an AdapterError in its place, so that a missing right for
        one command is a problem of that part only.

        Raises:
            AdapterError: For what concerns all commands: connect, auth, timeout, busy.
        """
        if not commands:
            return []
        packed = b"".join([_pack(tuple(command)) for command in commands])
        self.commands_sent += len(commands)
        with errors(), sending(commands, whole):
            replies = await self._exchange(packed, len(commands))
        for i, reply in enumerate(replies):
            if isinstance(reply, Exception):
                replies[i] = error = None if is_missing(reply) else adapter_error(reply, describe(commands[i]))
                if error and error.reason in _OF_THE_SERVER:
                    raise error
        return replies

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send commands, and return as many replies; an error reply is a ResponseError.

        redis-py's pipeline awaits each reply under a timer of its own, which takes five times as long. Verified with
        redis-py 8.1.0.
        """
        pool: Any = self._pool
        connection = await pool.get_connection()
        try:
            sent, took = time.perf_counter(), 0.0
            await connection.send_packed_command(packed)
            reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
            replies: list[Any] = []
            while len(replies) < count:
                async with asyncio.timeout(self._timeout):
                    data = await connection._reader.read(_CHUNK)
                took = took or time.perf_counter() - sent
                if not data:
                    raise RedisConnectionError("closed by the server")
                reader.feed(data)
                while (reply := reader.gets()) is not False:
                    replies.append(reply)
            self.roundtrip_seconds = took
        except BaseException:  # replies that come late must not be taken for those to other commands
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
        return replies

    async def time(self) -> float:
        """The server's clock, in Unix seconds."""
        seconds, microseconds = await self.command("TIME")
        return int(seconds) + int(microseconds) / 1e6

    async def aclose(self) -> None:
        """Close every connection. A server that hangs does not hold it up."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._pool.disconnect(inuse_connections=True)

    async def _greet(self, connection: AbstractConnection) -> None:
        """Log in as redis-py does; then name the connection and learn the version, where the server lets us."""
        # CLIENT SETINFO would stand in the ACL log of a user with least rights.
        for attribute in ("driver_info", "lib_name", "lib_version"):
            if hasattr(connection, attribute):
                with suppress(AttributeError):
                    setattr(connection, attribute, None)
        with sending(_greetings(connection), whole):
            await connection.on_connect()
        hello = ("HELLO", 2, "SETNAME", self._name)
        try:
            with sending([hello], whole):
                await connection.send_command(*hello)
                reply = await connection.read_response()
        except ResponseError:
            return  # refused, or older than Redis 6: what HELLO would tell stays unknown
        told = {k: v for k, v in zip(reply[::2], reply[1::2], strict=False) if isinstance(v, bytes)}
        self.server = told.get(b"server", b"").decode()
        self.server_version = told.get(b"version", b"").decode()


@asynccontextmanager
async def connect(
    source: Source, *, purpose: str = "collect", database: int | None = None
) -> AsyncIterator[RedisClient]:
    """A client for the source's URL: redis://, rediss://, unix:// or sentinel://, with redis-py's options in the query.

    Behind Sentinels it is the master's; what they need beside the URL is in options that inherit SentinelOptions.

    The first command connects. Connecting and each reply may take `source.timeout`.

    Args:
        source: Whose URL it is.
        purpose: Joined to the connection's name where it is not "collect", e.g. "taskq-exporter-follow".
        database: Instead of the URL's database.

    Raises:
        AdapterError: connect, where the URL is none of Redis.
    """
    name = CLIENT_NAME if purpose == "collect" else f"{CLIENT_NAME}-{purpose}"
    sentinel = source.options if isinstance(source.options, SentinelOptions) else None
    client = RedisClient(source.url(), timeout=source.timeout, name=name, database=database, sentinel=sentinel)
    try:
        yield client
    finally:
        await client.aclose()


def _greetings(connection: Any) -> list[Command]:
    """What redis-py sends first on a connection. Verified with redis-py 8.1.0."""
    secret = connection.credential_provider or connection.username or connection.password
    return [*([("AUTH", "***")] if secret else []), *([("SELECT", connection.db)] if connection.db else [])]


def _pool(url: str, options: SentinelOptions, **ours: Any) -> ConnectionPool:
    """Connections as the URL's query describes them, without its say in what this toolkit relies on."""
    nodes: list[tuple[str, int]] = []
    name = ""
    try:
        if is_sentinel(url):
            url, nodes, name = parse_sentinel(url)
        kwargs: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # The text of urllib's error can hold a part of the password.
        raise AdapterError(
            Reason.CONNECT,
            "not a Redis URL: write redis://, rediss://, sentinel:// or unix://, and in a password "
            "%23, %2F, %3F, %40 for # / ? @",
        ) from None
    if str(kwargs.get("ssl_cert_reqs", "")).startswith("CERT_"):
        kwargs["ssl_cert_reqs"] = kwargs["ssl_cert_reqs"].removeprefix("CERT_").lower()  # as kombu spells them
    kwargs |= ours
    kwargs |= {"protocol": 2, "decode_responses": False, "retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
    pool = (
        MasterPool(nodes, options, name=name, timeout=float(ours["socket_timeout"]), **kwargs)
        if nodes
        else ConnectionPool(**kwargs)
    )
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]  # no I/O
    except TypeError:
        raise AdapterError(
            Reason.CONNECT, "the query of the Redis URL has an option that redis-py does not know"
        ) from None
    return pool
