"""The connection, the searches in the background, and the queues that are known by now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from taskq_exporter_redis import Discovery, RedisClient, ServerInfo, scan
from taskq_exporter_redis import connect as connect_redis

from taskq_exporter.api import AdapterError, Problem, Reason, Source
from taskq_exporter_redis_pubsub.names import ACTIVE, PRIORITY, QUEUE, REGISTERED, TASKS, WORKER
from taskq_exporter_redis_pubsub.options import PubsubOptions

__all__ = ["QUEUES", "WORKERS", "Client", "KnownQueues", "connect"]

#: Queues and workers that are asked about in one collect.
QUEUES = 1_000
WORKERS = 1_000
#: Keys of workers and active tasks that one search takes in.
KEYS = 100_000


class KnownQueues:
    """Queues that anything told of, until their TTL: the list of an empty one does not exist."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl  # seconds
        self._seen: dict[str, float] = {}

    def saw(self, *queues: str) -> None:
        """Something named these."""
        now = time.monotonic()
        for queue in queues:
            if queue in self._seen or len(self._seen) < 2 * QUEUES:  # hostile names must not fill the memory
                self._seen[queue] = now

    def names(self) -> list[str]:
        """The queues, sorted."""
        oldest = time.monotonic() - self._ttl
        self._seen = {queue: at for queue, at in self._seen.items() if at >= oldest}
        return sorted(self._seen)


#: By source and URL: what its follower hears of, its collects ask about.
_known: WeakValueDictionary[tuple[str, str], KnownQueues] = WeakValueDictionary()


class Client:
    """What connect() hands to the other hooks."""

    def __init__(self, redis: RedisClient, source: Source, queues: KnownQueues, stack: AsyncExitStack) -> None:
        self.redis = redis
        self.server_info = ServerInfo(source.disabled)
        #: Tasks that each worker runs, as of the last search.
        self.active: Counter[str] = Counter()
        self._source = source
        self._queues = queues
        self._stack = stack
        self._searches: tuple[Discovery, Discovery] | None = None
        self._told = 0

    def commands(self) -> int:
        """Commands sent since this was last asked."""
        before, self._told = self._told, self.redis.commands_sent
        return self._told - before

    async def workers(self) -> tuple[list[str], list[Problem]]:
        """The registered workers, and why some or some queues may be missing. The first call starts the searches."""
        if self._searches is None:
            options: PubsubOptions = self._source.options
            queues = Discovery(self._find_queues, every=options.discovery_interval)
            workers = Discovery(self._find_workers, every=options.worker_interval)
            self._searches = await self._stack.enter_async_context(queues), workers
            await self._stack.enter_async_context(workers)
        of_queues, of_workers = self._searches
        # Half of the time that a collect has: where the first search takes longer, the page shows what is known.
        patience = self._source.timeout / 4
        await of_queues.names(patience)
        names = sorted(await of_workers.names(patience))
        problems = [
            Problem(reason=search.problem.reason, part=part, message=str(search.problem))
            for search, part in ((of_queues, "queues"), (of_workers, "workers"))
            if search.problem
        ]
        if len(names) > WORKERS:
            text = f"more than {WORKERS} workers are registered: DEL {REGISTERED}NAME of those that are gone"
            problems.append(Problem(reason=Reason.COST, part="workers", message=text))
        return names[:WORKERS], problems

    def saw(self, *queues: str) -> None:
        """A list, a channel, a worker or a message named these; those that nobody wants take no room."""
        self._queues.saw(*filter(self._source.queues.wants, queues))

    def queues(self) -> list[str]:
        """The queues to ask about: expected ones first, the others sorted."""
        wanted = self._source.queues
        return [*dict.fromkeys((*wanted.expected, *filter(wanted.wants, self._queues.names())))]

    async def _find_queues(self) -> tuple[str, ...]:
        async for key in scan(self.redis, f"{QUEUE}*", "list"):
            self.saw(_name(key, QUEUE))
        return ()

    async def _find_workers(self) -> set[str]:
        """Workers by their hashes; also what they run, and queues that somebody listens to."""
        workers, active = set(), set()
        async for key in scan(self.redis, f"{WORKER[:-1]}*:*"):  # of both kinds of keys
            if key.startswith(REGISTERED.encode()):
                workers.add(_name(key, REGISTERED))
            elif ACTIVE.encode() in key:
                active.add(key)
            if len(workers) + len(active) > KEYS:
                raise AdapterError(Reason.COST, f"more than {KEYS} keys of workers and of active tasks")
        self.active = Counter(_name(key, WORKER).partition(ACTIVE)[0] for key in active)
        channels = await self.redis.command("PUBSUB", "CHANNELS", f"{TASKS}*")
        self.saw(*(_name(channel, TASKS) for channel in channels if not channel.startswith(PRIORITY.encode())))
        return workers


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[Client]:
    """A client for one source; the first command connects. Raises AdapterError where the URL is none of Redis."""
    key = (source.name, source.url())
    queues = _known.get(key) or _known.setdefault(key, KnownQueues(source.queue_ttl))
    async with connect_redis(source) as redis, AsyncExitStack() as stack:
        yield Client(redis, source, queues, stack)


def _name(key: bytes, prefix: str) -> str:
    return key.decode(errors="replace").removeprefix(prefix)
