"""A cursor over a sorted set whose scores are times: each member is given out once, none is lost.

A score is taken before the member is committed, and by clocks that differ: `score > last` loses members. The cursor
reads again what lies within an overlap and forgets the (member, score) pairs that it has given out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from taskq_exporter_redis.client import RedisClient


class Entry(NamedTuple):
    """A member of the sorted set and its score, in Unix seconds."""

    member: str
    score: float


class ZsetCursor:
    """Where reading of one sorted set stands. Only `advance` moves it, so that counting and moving can be one step."""

    def __init__(self, key: str, *, overlap: float, position: float, seen: Mapping[str, float] | None = None) -> None:
        """Start at `position`, in Unix seconds of the server.

        Args:
            key: The sorted set.
            overlap: Seconds to read again: more than the clocks differ and the slowest commit takes.
            position: Up to where everything has been given out.
            seen: Members and scores given out within the overlap.
        """
        self.key = key
        self.overlap = overlap
        self.position = position
        self._seen: dict[str, float] = dict(seen or {})
        self._prune_at = 0

    @property
    def state(self) -> dict[str, Any]:
        """What JSON can hold and `restore` takes. A new object each time: a checkpoint may be writing an older one."""
        return {"position": self.position, "seen": dict(self._seen)}

    @classmethod
    def restore(cls, key: str, state: Mapping[str, Any], *, overlap: float) -> Self:
        """The cursor that `state` describes.

        Raises:
            ValueError, TypeError, KeyError: Where it describes none.
        """
        seen = {str(member): float(score) for member, score in state["seen"].items()}
        return cls(key, overlap=overlap, position=float(state["position"]), seen=seen)

    async def pages(self, client: RedisClient, *, size: int = 1000) -> AsyncGenerator[list[Entry]]:
        """Entries not given out yet, oldest first, in pages of at most `size`; the last page may be empty.

        The caller advances over each page before it asks for the next.

        Raises:
            AdapterError: As `RedisClient.command`.
        """
        start, offset = self.position - self.overlap, 0
        while True:
            reply = await client.command(
                "ZRANGEBYSCORE", self.key, repr(start), "+inf", "WITHSCORES", "LIMIT", offset, size
            )
            members = [member.decode(errors="replace") for member in reply[::2]]
            scores = [float(score) for score in reply[1::2]]
            if scores:
                # Go on at the last score, behind those that share it: a commit at the same instant is not skipped.
                offset = scores.count(scores[-1]) + (offset if scores[-1] == start else 0)
                start = scores[-1]
            seen = self._seen
            yield [Entry(m, s) for m, s in zip(members, scores, strict=True) if seen.get(m) != s]
            if len(members) < size:
                return

    def advance(self, entries: Sequence[Entry], now: float) -> None:
        """Count `entries` as given out.

        Args:
            entries: Of the page that was dealt with.
            now: The server's clock: one entry from the future must not hide those of the present.
        """
        self._seen.update(entries)
        if entries:
            self.position = max(self.position, min(entries[-1].score, now))
        if len(self._seen) > self._prune_at:
            oldest = self.position - self.overlap
            self._seen = {member: score for member, score in self._seen.items() if score >= oldest}
            self._prune_at = len(self._seen) * 5 // 4 + 100
