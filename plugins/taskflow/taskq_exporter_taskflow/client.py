"""Both servers of a source. Each is connected when it is first asked, so that one may be down without the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskq_exporter_redis import RedisClient
from taskq_exporter_sql import SqlClient

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.servers import redis_info

__all__ = ["SHARE", "Client", "connect"]

#: The part of the source's timeout that one server may take: what the other one says must still reach the page.
SHARE = 0.7
#: After these a URL is read again: it may come from a file.
_ANEW = {Reason.AUTH, Reason.CONNECT}


class Client:
    """The database and Redis, each made when first asked for, and anew after a failure to connect."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.server_info = redis_info(source.disabled)
        self._database: SqlClient | None = None
        self._redis: RedisClient | None = None

    def database(self) -> SqlClient:
        """Raises AdapterError: connect, where the URL is none of PostgreSQL; auth, where its file cannot be read."""
        if self._database is None:
            self._database = SqlClient(self._source.url(), timeout=SHARE * self._source.timeout)
        return self._database

    def redis(self) -> RedisClient:
        """Raises AdapterError: connect, where the URL is none of Redis; auth, where its file cannot be read."""
        if self._redis is None:
            options: TaskflowOptions = self._source.options
            timeout = SHARE * self._source.timeout
            self._redis = RedisClient(options.redis_url.get_secret_value(), timeout=timeout, sentinel=options)
        return self._redis

    def database_failed(self, error: AdapterError) -> None:
        """Look at the tables again, and where it did not connect at the URL."""
        if self._database is not None:
            self._database.memory.clear()
            if error.reason in _ANEW:
                self._database.drop()
                self._database = None

    async def redis_failed(self, error: AdapterError) -> None:
        """Where it did not connect, read the URL again."""
        if self._redis is not None and error.reason in _ANEW:
            redis, self._redis = self._redis, None
            await redis.aclose()

    async def close(self) -> None:
        """Close what is open."""
        if self._database is not None:
            self._database.drop()
        if self._redis is not None:
            await self._redis.aclose()


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[Client]:
    """Both clients. Connects to nothing yet, and raises nothing."""
    client = Client(source)
    try:
        yield client
    finally:
        await client.close()
