"""A connection to a Redis that is Celery's broker, and what is read through it in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from taskq_exporter_redis import Discovery, RedisClient, ServerInfo
from taskq_exporter_redis import connect as connect_redis

from taskq_exporter.api import Finding, Snapshot, Source
from taskq_exporter_celery.broker import Answers, Shared, Subscription, shared_of
from taskq_exporter_celery.on_redis import checks, pidbox, pubsub
from taskq_exporter_celery.on_redis import collect as collecting
from taskq_exporter_celery.on_redis.alternatives import Alternatives
from taskq_exporter_celery.on_redis.bindings import Bindings, QueueSearch
from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.on_redis.messages import Message
from taskq_exporter_celery.on_redis.redbeat import Redbeat
from taskq_exporter_celery.on_redis.tails import Tails
from taskq_exporter_celery.on_redis.unacked import Unacked

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower

#: Seconds between looks at the unacknowledged messages, and at the oldest of each queue.
READ_UNACKED_EVERY = 3.0
LOOK_AT_TAILS_EVERY = 3.0


class RedisBroker:
    """Implements taskq_exporter_celery.broker.Broker."""

    tells_consumers = False

    def __init__(self, source: Source, redis: RedisClient, layout: Layout, shared: Shared) -> None:
        self.source = source
        self.redis = redis
        self.layout = layout
        self.shared = shared
        #: As the last search that succeeded found them.
        self.bindings = shared.keep(Bindings)
        self.unacked = Unacked(redis, layout, source.options.enqueued_header)
        self.tails = Tails(redis, layout, source.options.enqueued_header)
        self.redbeat = Redbeat(redis, source.options)
        self.server_info = ServerInfo(source.disabled)
        self._search = QueueSearch(redis, layout, self.bindings, self.queues, every=source.options.discovery_interval)
        self.queue_search = self._search.walks
        self.unacked_reads = Discovery(self._read_unacked, READ_UNACKED_EVERY)
        self.tail_reads = Discovery(self._look_at_tails, LOOK_AT_TAILS_EVERY)
        self._taught: Follower | None = None  # who was told of all that is held
        self.commands_told = 0  # commands that a snapshot has counted
        self._background: AsyncExitStack | None = None

    async def collect(self) -> Snapshot:
        """Queues now."""
        return await collecting.collect(self)

    def subscribe(self) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events."""
        return pubsub.subscribe(self.redis, self.layout.events, self.source.timeout)

    async def ask(self, commands: Sequence[str], nodes: Collection[str], timeout: float) -> Answers:
        """Ask all workers by remote control."""
        return await pidbox.ask(self.redis, self.layout, commands, nodes, timeout)

    async def findings(self) -> list[Finding]:
        """What `check` says of the broker's side."""
        return await checks.findings(self)

    async def read_in_background(self) -> None:
        """Start, once, what collects need and a follower does not."""
        if self._background is None:
            self._background = AsyncExitStack()
            await self._background.enter_async_context(self.queue_search)
            await self._background.enter_async_context(self._search.looks)
            await self._background.enter_async_context(self.unacked_reads)
            if self.source.options.peek:
                await self._background.enter_async_context(self.tail_reads)
            if self.source.options.redbeat is not False:
                await self._background.enter_async_context(self.redbeat.reads)

    async def aclose(self) -> None:
        """End what runs in the background."""
        if self._background is not None:
            await self._background.aclose()

    def queues(self) -> list[str]:
        """Names to read, those that are expected first."""
        wanted = self.source.queues
        seen = self.shared.follower.queues if self.shared.follower else ()
        return [q for q in dict.fromkeys((*wanted.expected, *sorted(self.bindings.queues), *seen)) if wanted.wants(q)]

    async def _read_unacked(self) -> tuple[()]:
        await self._queues_found()
        await self.unacked.refresh()
        all_ = self._taught is not self.shared.follower
        for message in [held for held, _ in self.unacked.held] if all_ else self.unacked.new:
            self._teach(message, self.bindings.queue(message.exchange, message.routing_key))
        self._taught = self.shared.follower
        return ()

    async def _look_at_tails(self) -> tuple[()]:
        await self._queues_found()
        for queue, messages in (await self.tails.refresh(self.queues()[: collecting.QUEUES])).items():
            for message in messages:
                self._teach(message, queue)
        return ()

    async def _queues_found(self) -> None:
        """Give the first search for queues some time; what needs them is waited for only half of the deadline."""
        await self.queue_search.names(self.source.timeout / 4)

    def _teach(self, message: Message, queue: str) -> None:
        """Tell the follower where a task's message lies, or was taken from, and whether beat sent it."""
        follower = self.shared.follower
        if follower is None:
            return
        if queue and message.task:
            follower.tasks.learn(message.id, message.task, message.retries, queue)
        if message.beat:
            follower.schedulers.learned(message.beat)


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[RedisBroker]:
    """A client for the source's broker.

    Raises:
        AdapterError: connect, where the URL is wrong.
    """
    shared = shared_of(source)
    url = await shared.keep(Alternatives).choose(source)
    async with connect_redis(replace(source, url=lambda: url), database=source.options.database) as redis:
        database = redis.redis.connection_pool.connection_kwargs.get("db") or 0
        broker = RedisBroker(source, redis, Layout(source.options, int(database)), shared)
        try:
            yield broker
        finally:
            await broker.aclose()
