"""Workers, as the consumers of the streams' groups: there is no registry and no heartbeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskq_exporter.api import WorkerState


@dataclass(slots=True)
class Consumer:
    """A consumer, over all streams that list it."""

    idle: float  # seconds since it last read any of them
    pending: int = 0
    queues: set[str] = field(default_factory=set)


class Consumers:
    """All consumers that one collect saw.

    A worker reads at least every few seconds while it waits, and not at all while a task runs: it lives where it has
    read lately, or holds a task that nobody has claimed from it yet. What a dead worker leaves behind stays listed
    until another worker sweeps it, for ever where there is none; it counts until `claim_timeout` where it held a task.
    """

    def __init__(self, *, alive_within: float, claim_timeout: float) -> None:
        self._alive_within = alive_within
        self._claim_timeout = claim_timeout
        self._consumers: dict[bytes, Consumer] = {}

    def add(self, queue: str, rows: Iterable[Mapping[bytes, Any]]) -> None:
        """Take in XINFO CONSUMERS of one stream of a queue."""
        for row in rows:
            idle = row[b"idle"] / 1000
            consumer = self._consumers.setdefault(row[b"name"], Consumer(idle))
            consumer.idle = min(consumer.idle, idle)
            consumer.pending += row[b"pending"]
            consumer.queues.add(queue)

    def _alive(self) -> list[Consumer]:
        return [
            c
            for c in self._consumers.values()
            if c.idle < self._alive_within or (c.pending and c.idle < self._claim_timeout)
        ]

    def reading(self) -> Counter[str]:
        """Workers that live, for each queue that they read, whichever queue's task they are busy with."""
        return Counter(queue for c in self._alive() for queue in c.queues)

    def left_behind(self) -> Counter[str]:
        """Consumers of workers that are gone, for each queue."""
        alive = {id(c) for c in self._alive()}
        return Counter(queue for c in self._consumers.values() if id(c) not in alive for queue in c.queues)

    def states(self) -> dict[WorkerState, int]:
        """Workers that live, by what they do."""
        alive = self._alive()
        busy = sum(c.pending > 0 for c in alive)
        return {WorkerState.BUSY: busy, WorkerState.IDLE: len(alive) - busy}
