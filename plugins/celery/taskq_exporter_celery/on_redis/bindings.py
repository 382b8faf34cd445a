"""Which queues there are, and which one a message goes to: kombu keeps a set of bindings for each exchange.

They stay when a queue is empty, so they tell of every queue that anybody ever declared. Verified with kombu 5.7.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from taskq_exporter_redis import Discovery, RedisClient, scan

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.on_redis.layout import Layout

#: Most bindings of one exchange to read: reply queues bind to it too, and some are never deleted.
BINDINGS = 20_000
#: How many times as long as a walk through all keys took, which is mostly pauses, the next one waits at least.
RESTS = 5
#: The exchange that Celery declares where nobody says otherwise: known before any search ends.
DEFAULT = "celery"


class Bindings:
    """Which queue a message goes to."""

    def __init__(self) -> None:
        self.queues: frozenset[str] = frozenset()
        self._of: dict[str, frozenset[tuple[str, str]]] = {}  # routing keys and queues by exchange
        self._queue: dict[tuple[str, str | None], str] = {}  # by exchange and routing key, None: any; "" for several

    @property
    def exchanges(self) -> Iterable[str]:
        """Those that are known."""
        return self._of.keys()

    def replace(self, bindings: Mapping[str, Iterable[tuple[str, str]]]) -> None:
        """Take over all there are: routing keys and queues by exchange."""
        self._of = {}
        self.update(bindings)

    def update(self, bindings: Mapping[str, Iterable[tuple[str, str]]]) -> None:
        """Take over those of some exchanges."""
        read = {exchange: frozenset(pair for pair in pairs if pair[1]) for exchange, pairs in bindings.items()}
        if self._of and all(self._of.get(exchange) == pairs for exchange, pairs in read.items()):
            return
        self._of |= read
        self._queue = {}
        for exchange, pairs in self._of.items():
            for routing_key, queue in pairs:
                for key in ((exchange, routing_key), (exchange, None)):
                    self._queue[key] = queue if self._queue.get(key, queue) == queue else ""
        self.queues = frozenset(queue for pairs in self._of.values() for _, queue in pairs)

    def queue(self, exchange: str, routing_key: str) -> str:
        """The queue, or "" where several are possible or none is known."""
        if not exchange:
            return routing_key
        return self._queue.get((exchange, routing_key)) or self._queue.get((exchange, None), "")


class QueueSearch:
    """Looks for queues in the background: in all keys now and then, and more often where it knows to look."""

    def __init__(
        self, redis: RedisClient, layout: Layout, bindings: Bindings, known: Callable[[], Iterable[str]], every: float
    ) -> None:
        """Starts when `walks` and `looks` are entered.

        Args:
            redis: Where to look.
            layout: Names of the keys.
            bindings: Takes what is found.
            known: Names queues whose bindings may be new: most have an exchange of their own name.
            every: Seconds between rounds.
        """
        self._redis = redis
        self._layout = layout
        self._bindings = bindings
        self._known = known
        self.walks = Discovery(self._walk, every, rests=RESTS)
        self.looks = Discovery(self._look, every)

    async def _walk(self) -> Iterable[str]:
        keys = [key async for key in scan(self._redis, self._layout.bindings, "set")]
        found = {key: name for key in keys if (name := self._layout.exchange(key)) is not None}
        read = await self._read(found)
        self._bindings.replace(read)
        if len(read) < len(found):
            text = f"an exchange has more than {BINDINGS} bindings: name its queues as expected"
            raise AdapterError(Reason.COST, text)
        return self._bindings.queues

    async def _look(self) -> Iterable[str]:
        names = {DEFAULT, *self._known(), *self._bindings.exchanges}
        read = await self._read({self._layout.binding_key(name): name for name in names})
        self._bindings.update({name: pairs for name, pairs in read.items() if pairs})
        return ()

    async def _read(self, exchanges: Mapping[bytes, str]) -> dict[str, list[tuple[str, str]]]:
        """Bindings by exchange; those that have too many are left out."""
        sizes = await self._redis.replies([("SCARD", key) for key in exchanges])
        small = [key for key, size in zip(exchanges, sizes, strict=True) if size <= BINDINGS]
        replies = await self._redis.replies([("SMEMBERS", key) for key in small])
        return {
            exchanges[key]: [self._layout.binding(member) for member in members]
            for key, members in zip(small, replies, strict=True)
        }
