"""A connection to one broker, and what its collects and its follower tell each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from taskq_exporter_redis import Discovery, RedisClient, scan
from taskq_exporter_redis import connect as connect_redis

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter_celery.layout import Bindings, Layout
from taskq_exporter_celery.unacked import Unacked

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower

#: Seconds between looks at the unacknowledged messages.
READ_UNACKED_EVERY = 3.0


#: Most bindings of one exchange to read: reply queues bind to it too, and some are never deleted.
BINDINGS = 20_000


class Shared:
    """What the clients of one source share, also with those that come after an error."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key  # URL and options, while which are the same the rest holds
        #: Set while it follows.
        self.follower: Follower | None = None
        #: As the last search that succeeded found them.
        self.bindings = Bindings()


_shared: dict[str, Shared] = {}  # by source


class Broker:
    """What connect() gives to the other hooks."""

    def __init__(self, redis: RedisClient, layout: Layout, shared: Shared, find_queues_every: float) -> None:
        self.redis = redis
        self.layout = layout
        self.shared = shared
        self.unacked = Unacked(redis, layout)
        self.queue_search = Discovery(self._find_queues, find_queues_every)
        self.unacked_reads = Discovery(self.unacked.refresh, READ_UNACKED_EVERY)
        self.commands_told = 0  # commands that a snapshot has counted
        self._background: AsyncExitStack | None = None

    async def read_in_background(self) -> None:
        """Start, once, what collects need and a follower does not."""
        if self._background is None:
            self._background = AsyncExitStack()
            await self._background.enter_async_context(self.queue_search)
            await self._background.enter_async_context(self.unacked_reads)

    async def aclose(self) -> None:
        """End what runs in the background."""
        if self._background is not None:
            await self._background.aclose()

    async def _find_queues(self) -> Iterable[str]:
        """The queues that anybody ever declared: kombu keeps the bindings of empty ones too."""
        keys = [key async for key in scan(self.redis, self.layout.bindings, "set")]
        exchanges = {key: name for key in keys if (name := self.layout.exchange(key)) is not None}
        sizes = await self._replies("SCARD", exchanges)
        small = [key for key, size in zip(exchanges, sizes, strict=True) if size <= BINDINGS]
        replies = await self._replies("SMEMBERS", small)
        bindings = self.shared.bindings
        bindings.replace(
            (exchanges[key], *self.layout.binding(member))
            for key, members in zip(small, replies, strict=True)
            for member in members
        )
        if len(small) < len(exchanges):
            text = f"an exchange has more than {BINDINGS} bindings: name its queues as expected"
            raise AdapterError(Reason.COST, text)
        return bindings.queues

    async def _replies(self, command: str, keys: Iterable[bytes]) -> list[Any]:
        replies = await self.redis.pipeline([(command, key) for key in keys])
        for reply in replies:
            if isinstance(reply, AdapterError):
                raise reply
        return replies


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[Broker]:
    """A client for the source's broker.

    Raises:
        AdapterError: unsupported, where it is no Redis; connect, where the URL is wrong.
    """
    url = redis_url(source.url())
    key = (url, repr(source.options))
    shared = _shared.get(source.name)
    if shared is None or shared.key != key:
        shared = _shared[source.name] = Shared(key)
    async with connect_redis(replace(source, url=lambda: url), database=source.options.database) as redis:
        database = redis.redis.connection_pool.connection_kwargs.get("db") or 0
        broker = Broker(redis, Layout(source.options, int(database)), shared, source.options.discovery_interval)
        try:
            yield broker
        finally:
            await broker.aclose()


def redis_url(url: str) -> str:
    """Kombu's broker URL in redis-py's words; of several (`a;b`) the first.

    Raises:
        AdapterError: unsupported, where the broker is no single Redis.
    """
    url = url.split(";")[0].strip()
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss", "unix"):
        return url
    if parts.scheme in ("redis+socket", "socket"):
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        query["db"] = query.pop("virtual_host", "0").strip("/") or "0"
        return f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"
    kind = parts.scheme or "unnamed"
    raise AdapterError(
        Reason.UNSUPPORTED, f"a broker of the kind {kind} is not supported: give a redis://, rediss:// or unix:// URL"
    )
