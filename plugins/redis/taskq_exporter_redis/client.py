"""A connection to a Redis server for reading: deadlines, no retries, one round trip for many commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter_redis.errors import adapter_error, describe, errors, is_missing

Command = Sequence[str | bytes | int | float]

CLIENT_NAME = "taskq-exporter"

#: An error reply with one of these reasons concerns every command, not the one that it answers.
_OF_THE_SERVER = {Reason.AUTH, Reason.BUSY, Reason.CONNECT, Reason.TIMEOUT}


class RedisClient:
    """What an adapter reads through. Replies are those of RESP2, as bytes, int, list or None."""

    def __init__(self, url: str, *, timeout: float, name: str = CLIENT_NAME, database: int | None = None) -> None:
        self._name = name
        self._pool = _pool(
            url,
            redis_connect_func=self._greet,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            **({} if database is None else {"db": database}),
        )
        #: redis-py's client of the same connections, for its helpers; use it inside `errors()`.
        self.redis: Redis = Redis(connection_pool=self._pool)
        #: Commands sent so far by command() and pipeline().
        self.commands_sent = 0
        #: What HELLO told at the first connection, e.g. "redis" and "7.0.15"; "" where it is refused or unknown.
        self.server = ""
        self.server_version = ""
        self._raw: Redis = Redis(connection_pool=self._pool)
        self._raw.response_callbacks.clear()  # replies as the server sent them

    async def command(self, *args: str | bytes | int | float) -> Any:
        """The reply to one command; None where its key or group does not exist.

        Raises:
            AdapterError: Of any reason that `errors` knows.
        """
        (reply,) = await self.pipeline([args])
        if isinstance(reply, AdapterError):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to `commands`, sent in one non-transactional round trip.

        A missing key or group is None; an error reply is an AdapterError in its place, so that a missing right for
        one command is a problem of that part only.

        Raises:
            AdapterError: For what concerns all commands: connect, auth, timeout, busy.
        """
        if not commands:
            return []
        with errors():
            # Not `async with`: redis-py has given the connection back when execute() ends, in whatever way.
            pipe = self._raw.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            self.commands_sent += len(commands)
            replies = await pipe.execute(raise_on_error=False)
        for i, reply in enumerate(replies):
            if isinstance(reply, Exception):
                replies[i] = error = None if is_missing(reply) else adapter_error(reply, describe(commands[i]))
                if error and error.reason in _OF_THE_SERVER:
                    raise error
        return list(replies)

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
        await connection.on_connect()
        try:
            await connection.send_command("HELLO", 2, "SETNAME", self._name)
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
    """A client for the source's URL: redis://, rediss:// or unix://, with redis-py's options in the query.

    The first command connects. Connecting and each reply may take `source.timeout`.

    Args:
        source: Whose URL it is.
        purpose: Joined to the connection's name where it is not "collect", e.g. "taskq-exporter-follow".
        database: Instead of the URL's database.

    Raises:
        AdapterError: connect, where the URL is none of Redis.
    """
    name = CLIENT_NAME if purpose == "collect" else f"{CLIENT_NAME}-{purpose}"
    client = RedisClient(source.url(), timeout=source.timeout, name=name, database=database)
    try:
        yield client
    finally:
        await client.aclose()


def _pool(url: str, **ours: Any) -> ConnectionPool:
    """Connections as the URL's query describes them, without its say in what this toolkit relies on."""
    try:
        kwargs: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # The text of urllib's error can hold a part of the password.
        raise AdapterError(
            Reason.CONNECT,
            "not a Redis URL: write redis://, rediss:// or unix://, and %23, %2F, %3F, %40 for # / ? @ in a password",
        ) from None
    if str(kwargs.get("ssl_cert_reqs", "")).startswith("CERT_"):
        kwargs["ssl_cert_reqs"] = kwargs["ssl_cert_reqs"].removeprefix("CERT_").lower()  # as kombu spells them
    kwargs |= ours
    kwargs |= {"protocol": 2, "decode_responses": False, "retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
    pool = ConnectionPool(**kwargs)
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]  # no I/O
    except TypeError:
        raise AdapterError(
            Reason.CONNECT, "the query of the Redis URL has an option that redis-py does not know"
        ) from None
    return pool
