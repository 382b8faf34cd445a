"""When the tasks were sent that wait in each queue, for brokers whose messages nobody may look at. Pure."""

from __future__ import annotations

from itertools import islice

#: Most tasks to remember, of all queues together; over it the oldest of the longest queue are forgotten.
LIMIT = 200_000


class Backlog:
    """Tasks that a task-sent told of and that no worker has received, by queue and in the order of sending."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._count = 0
        self._waiting: dict[str, dict[str, float]] = {}

    def __len__(self) -> int:
        return self._count

    def sent(self, queue: str, uuid: str, runnable: float) -> None:
        """A task was sent, and can run from that moment on (Unix seconds)."""
        self.taken(queue, uuid)
        self._waiting.setdefault(queue, {})[uuid] = runnable
        self._count += 1
        if self._count > self._limit:
            longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            self.taken(longest, next(iter(self._waiting[longest])))

    def taken(self, queue: str, uuid: str) -> None:
        """A worker received the task, or it ended without."""
        waiting = self._waiting.get(queue)
        if waiting is not None and waiting.pop(uuid, None) is not None:
            self._count -= 1
            if not waiting:
                del self._waiting[queue]

    def clear(self) -> None:
        """Events were missed: what waits is not known any more."""
        self._waiting.clear()
        self._count = 0

    def oldest(self, queue: str, ready: int) -> tuple[float, bool] | None:
        """Since when (Unix seconds) the oldest of so many ready tasks can run; None where nothing was told of them.

        Messages leave a queue in the order in which they came: that one is the ready-th from the end, whatever events
        were lost on the way. Also returns whether it may be older still: some of them were sent before we listened.
        """
        waiting = self._waiting.get(queue)
        if not waiting or ready <= 0:
            return None
        known = min(ready, len(waiting))
        return next(islice(reversed(waiting.values()), known - 1, None)), known < ready
