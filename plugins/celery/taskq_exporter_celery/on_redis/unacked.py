"""Whose the unacknowledged messages are: one hash holds those of all queues of a database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskq_exporter_redis import RedisClient

from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.on_redis.messages import Message, parse_held

#: Most messages to look at: the oldest.
LIMIT = 10_000
#: A message with a larger body is not fetched, so its queue is not known.
MAX_BYTES = 256 * 1024
#: Bytes and messages of one reply.
_SLICE_BYTES = 1024 * 1024
_SLICE = 500


class Unacked:
    """What workers hold, read off the scrape path: each message once, as long as it is held."""

    def __init__(self, redis: RedisClient, layout: Layout, header: str) -> None:
        self._redis = redis
        self._layout = layout
        self._header = header
        self._known: dict[bytes, Message | None] = {}
        self._delivered: dict[bytes, float] = {}
        #: How many there were in all.
        self.total = 0
        #: Those that the last look found for the first time.
        self.new: list[Message] = []

    @property
    def held(self) -> list[tuple[Message, float]]:
        """The messages whose queue is known, and when each was delivered, in Unix seconds."""
        return [(held, self._delivered[tag]) for tag, held in self._known.items() if held is not None]

    async def refresh(self) -> tuple[()]:
        """Look again.

        Raises:
            AdapterError: Where a key cannot be read.
        """
        index = self._layout.unacked_index
        total, listed = await self._redis.replies([("ZCARD", index), ("ZRANGE", index, 0, LIMIT - 1, "WITHSCORES")])
        tags = listed[::2]
        delivered = {tag: float(score) for tag, score in zip(tags, listed[1::2], strict=True)}
        known = {tag: self._known[tag] for tag in tags if tag in self._known}
        new = [tag for tag in tags if tag not in known]
        for i in range(0, len(new), _SLICE):
            known |= await self._fetch(new[i : i + _SLICE])
            await asyncio.sleep(0)
        self.new = [message for tag in new if (message := known.get(tag)) is not None]
        self._delivered = delivered  # with what is known of them: somebody may ask while they are fetched
        # Those acknowledged since they were listed are in neither.
        self._known, self.total = known, len(known) + (max(total - LIMIT, 0) if len(tags) == LIMIT else 0)
        return ()

    async def _fetch(self, tags: Sequence[bytes]) -> dict[bytes, Message | None]:
        """What the messages say; those acknowledged meanwhile are left out."""
        sizes = await self._redis.replies([("HSTRLEN", self._layout.unacked, tag) for tag in tags])
        found: dict[bytes, Message | None] = {}
        slice_: list[bytes] = []
        room = _SLICE_BYTES
        for tag, size in zip(tags, sizes, strict=True):
            if size > MAX_BYTES:
                found[tag] = None
            elif size:
                if size > room:
                    found |= await self._parse(slice_)
                    slice_, room = [], _SLICE_BYTES
                slice_.append(tag)
                room -= size
        return found | await self._parse(slice_)

    async def _parse(self, tags: Sequence[bytes]) -> dict[bytes, Message | None]:
        if not tags:
            return {}
        (values,) = await self._redis.replies([("HMGET", self._layout.unacked, *tags)])
        return {tag: self._parsed(value) for tag, value in zip(tags, values, strict=True) if value is not None}

    def _parsed(self, value: bytes) -> Message | None:
        try:
            return parse_held(value, self._header)
        except ValueError:
            return None
