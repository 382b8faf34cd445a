"""What waits at each worker, by task, and how long the last one did: many series, so only where they are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from taskq_exporter.api import Ledger, Sample, Snapshot, Source
from taskq_exporter_celery.events import Event
from taskq_exporter_celery.families import PREFETCH_SECONDS, PREFETCHED_TASKS
from taskq_exporter_celery.follower import Follower

__all__ = ["PREFETCH", "PrefetchFollower"]

#: The families that make it worth the while.
PREFETCH = frozenset({PREFETCH_SECONDS, PREFETCHED_TASKS})
#: Most tasks that wait or run, and most pairs of a worker and a task, to remember.
TASKS = 100_000
PAIRS = 10_000


class PrefetchFollower(Follower):
    """A follower that keeps them; by the workers' own clocks."""

    def __init__(self, source: Source, ledger: Ledger, clock: Callable[[], float]) -> None:
        super().__init__(source, ledger, clock)
        self._waiting: dict[str, tuple[str, str, float]] = {}  # by uuid: worker, task, when it was received
        self._running: dict[str, tuple[str, str]] = {}
        self._last: dict[tuple[str, str], float] = {}  # seconds that the last one waited; 0 when it has ended

    def resume(self) -> None:
        """A subscription starts: what became of those that waited is not known."""
        super().resume()
        self._waiting.clear()
        self._running.clear()

    def __call__(self) -> Snapshot:
        """What is seen now, with these samples."""
        snapshot = super().__call__()
        alive = {worker.name for worker in self.workers if worker.up is not False}
        self._last = {pair: seconds for pair, seconds in self._last.items() if pair[0] in alive}
        waiting = Counter((worker, task) for worker, task, _ in self._waiting.values())
        samples = [Sample(PREFETCHED_TASKS, pair, waiting[pair]) for pair in self._last]
        samples += [Sample(PREFETCH_SECONDS, pair, seconds) for pair, seconds in self._last.items()]
        return replace(snapshot, samples=[*snapshot.samples, *samples])

    def _take(self, event: Event, now: float) -> bool:
        taken = super()._take(event, now)
        if taken and event["type"].startswith("task-") and event["type"] != "task-sent":
            self._note(event["type"], event["uuid"], event)
        return taken

    def _note(self, kind: str, uuid: str, event: Event) -> None:
        if kind == "task-received":
            pair = (event["hostname"], event["name"])
            # one that has an ETA waits for that
            if not event.get("eta") and len(self._waiting) < TASKS and (pair in self._last or len(self._last) < PAIRS):
                self._waiting[uuid] = (*pair, event["timestamp"])
                self._last.setdefault(pair, 0.0)
        elif kind == "task-started":
            if (found := self._waiting.pop(uuid, None)) is not None:
                self._running[uuid] = found[:2]
                self._last[found[:2]] = max(event["timestamp"] - found[2], 0.0)
        else:
            self._waiting.pop(uuid, None)
            if (over := self._running.pop(uuid, None)) is not None:
                self._last[over] = 0.0
