"""How long the oldest message of each queue has been there: no message says when it was sent, so several things tell.

The tail of each list is looked at off the scrape path. Its age counts from its task-sent event, else from a header that
the application adds, else from when it was first seen at the tail, which is a lower bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskq_exporter_redis import RedisClient

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.on_redis.messages import Message, parse_ready

#: Lists of one round trip, and how many of those whose tail's size is not known: Redis tells it only by sending all.
SLICE = 500
_UNKNOWN = 20
#: Bytes of one round trip as far as they are known, and those after which a round ends; the next one goes on there.
_SLICE_BYTES = 1024 * 1024
ROUND_BYTES = 8 * 1024 * 1024
#: A tail of more bytes is looked at again after a second for each of these, though at least once a minute.
BYTES_A_SECOND = 64 * 1024
_LONGEST_REST = 60.0
_FOREVER = float("inf")


@dataclass(slots=True)
class Tail:
    """The oldest message of a list. Times are Unix seconds by the server's clock."""

    message: Message | None  # None where the list was empty, or holds no message of kombu
    since: float  # from when on we know it to be there; of an empty list: when it was
    size: int
    rests_until: float


class Tails:
    """The oldest messages of all lists, each looked at every few seconds."""

    def __init__(self, redis: RedisClient, layout: Layout, header: str) -> None:
        """`header` is that of parse_ready."""
        self._redis = redis
        self._layout = layout
        self._header = header
        self._tails: dict[str, Tail] = {}
        self._resume_at = ""  # the list at which the last round ended early

    async def refresh(self, queues: Iterable[str]) -> dict[str, list[Message]]:
        """Look again; returns what is at the tails of each queue.

        Raises:
            AdapterError: permission, where LINDEX is not allowed; those of the connection.
        """
        queue_of = {key: queue for queue in queues for key in self._layout.ready(queue)}
        self._tails = {key: tail for key, tail in self._tails.items() if key in queue_of}
        keys = list(queue_of)
        if self._resume_at in queue_of:
            first = keys.index(self._resume_at)
            keys = keys[first:] + keys[:first]
        now = await self._redis.time()
        due = [key for key in keys if key not in self._tails or self._tails[key].rests_until <= now]
        read = 0
        while due and read < ROUND_BYTES:
            slice_ = self._slice(due)
            due = due[len(slice_) :]
            read += await self._look(slice_)
            await asyncio.sleep(0)
        self._resume_at = due[0] if due else ""
        found: dict[str, list[Message]] = {}
        for key, tail in self._tails.items():
            if tail.message is not None:
                found.setdefault(queue_of[key], []).append(tail.message)
        return found

    def _slice(self, keys: Sequence[str]) -> Sequence[str]:
        """The first lists whose tails fit into one reply."""
        room, unknown = _SLICE_BYTES, _UNKNOWN
        for i, key in enumerate(keys[:SLICE]):
            tail = self._tails.get(key)
            unknown -= tail is None
            room -= tail.size if tail else 0
            if i and (room < 0 or unknown < 0):
                return keys[:i]
        return keys[:SLICE]

    async def _look(self, keys: Sequence[str]) -> int:
        """Look at some lists; returns the bytes that came."""
        clock, *values = await self._redis.pipeline([("TIME",), *(("LINDEX", key, -1) for key in keys)])
        now = int(clock[0]) + int(clock[1]) / 1e6
        read = 0
        for key, value in zip(keys, values, strict=True):
            if isinstance(value, AdapterError):
                if value.reason is Reason.PERMISSION:
                    raise value
                value = None  # no list: what reads its length says so
            size = len(value or b"")
            read += size
            message = self._parsed(value)
            before = self._tails.get(key)
            rests = now + min(size / BYTES_A_SECOND, _LONGEST_REST) if size > BYTES_A_SECOND else 0.0
            if before is not None and before.message == message:
                before.rests_until = rests
                if message is None:
                    before.since, before.size = now, size
                continue
            self._tails[key] = Tail(message, now, size, rests)
        return read

    def _parsed(self, value: Any) -> Message | None:
        try:
            return parse_ready(value, self._header) if value else None
        except ValueError:
            return None

    def oldest(
        self, queue: str, lengths: Sequence[int], now: float, sent: Callable[[str], float | None]
    ) -> tuple[float, bool] | None:
        """The age of a queue's oldest message.

        Args:
            queue: Which.
            lengths: Of its lists now.
            now: By the server's clock.
            sent: When a task could have run first, by its id, as far as events told.

        Returns:
            Seconds, and whether they are a lower bound; None where nothing is known.
        """
        age, unknown = 0.0, 0.0  # unknown: how old what we know nothing of may be
        known = False
        for key, length in zip(self._layout.ready(queue), lengths, strict=True):
            if not length:
                continue
            tail = self._tails.get(key)
            if tail is None:
                unknown = _FOREVER
                continue
            if tail.message is None:  # what came since the list was seen empty, or a message that is none of kombu's
                unknown = max(unknown, _FOREVER if tail.size else now - tail.since)
                continue
            since, exact = _since(tail.message, tail.since, sent)
            if since > now:  # it waits for its ETA, and is not late; what is behind it may be
                if length > 1:
                    unknown = _FOREVER
                    continue
            else:
                age = max(age, now - since)
                if not exact:
                    unknown = _FOREVER
            known = True
        if not known and unknown:
            return None
        return age, unknown > age


def _since(message: Message, seen: float, sent: Callable[[str], float | None]) -> tuple[float, bool]:
    """From when on the task could run, and whether that is more than a bound; `seen`: when it was first at the tail."""
    told = sent(message.id)
    if told is None:
        told = message.enqueued
    if message.eta is None:
        return (seen, False) if told is None else (told, True)
    return max(seen if told is None else told, message.eta), told is not None or message.eta >= seen
