"""The names of the queues: from all keys now and then, and from the newest tasks every few seconds."""

from __future__ import annotations

import time
from collections import deque

from taskq_exporter_redis import RedisClient, scan

from taskq_exporter.api import AdapterError
from taskq_exporter_django_tasks_redis.keys import STATUSES, Keys

#: Tasks per status that one look at the newest reads: at most 4 x 250 small commands.
NEWEST = 250
#: Task ids that need no second look; and queues found with new tasks.
REMEMBERED = 10_000


class QueueFinder:
    """Looks for queues in two ways, each to be called on a timer of its own."""

    def __init__(self, client: RedisClient, keys: Keys, *, since: float) -> None:
        """Start with no names.

        Args:
            client: Through which to read.
            keys: Of the backend.
            since: Seconds back that a task counts as new.
        """
        self._client = client
        self._keys = keys
        self._since = since
        self._found: dict[str, float] = {}  # with new tasks, and when; until a walk that began later is over
        self._known_ids: deque[bytes] = deque(maxlen=REMEMBERED)

    async def in_all_keys(self) -> set[str]:
        """Queues that have a stream or a sorted set: a walk through the database, in slices."""
        started = time.monotonic()
        found = [key.decode(errors="replace") async for key in scan(self._client, self._keys.queue_pattern)]
        self._found = {queue: at for queue, at in self._found.items() if at >= started}
        return {queue for key in found if (queue := self._keys.queue_of(key))}

    async def in_newest_tasks(self) -> set[str]:
        """Queues of tasks that entered a status lately, so that a new queue shows before the next walk."""
        since = await self._client.time() - self._since
        replies = await self._client.pipeline(
            [("ZRANGEBYSCORE", self._keys.status(s), repr(since), "+inf", "LIMIT", 0, NEWEST) for s in STATUSES]
        )
        for reply in replies:
            if isinstance(reply, AdapterError):
                raise reply
        known = set(self._known_ids)
        new = [i for i in dict.fromkeys(i for reply in replies for i in reply) if i not in known]
        queues = await self._client.pipeline(
            [("HGET", self._keys.result(i.decode(errors="replace")), "queue_name") for i in new]
        )
        self._known_ids.extend(new)
        now = time.monotonic()
        self._found |= {q.decode(errors="replace"): now for q in queues if isinstance(q, bytes) and q}
        for queue in list(self._found)[:-REMEMBERED]:  # no walk succeeds
            del self._found[queue]
        return set(self._found)
