"""Which queue a task is of, as seen of it or of others of its name. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Collection

#: Task names of one generation; over it no more are learned.
NAMES = 10_000
#: Messages whose queue was seen before any event told of the task.
MESSAGES = 20_000
#: Seconds of a generation: a name that was not seen for two is forgotten.
LASTS = 12 * 3600.0


class Learned:
    """The queue of each task name, in two generations: fleets that change often bring new names every day."""

    def __init__(self) -> None:
        self._young: dict[str, str] = {}  # "" where the tasks of a name go to several
        self._old: dict[str, str] = {}
        self._begun = 0.0
        self._seen: dict[str, tuple[str, str]] = {}  # name and queue of messages by task id

    def saw(self, uuid: str, name: str, queue: str) -> None:
        """The message of a task lies in this queue, or was taken from it."""
        if len(self._seen) >= MESSAGES and uuid not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[uuid] = name, queue

    def queue_of(self, uuid: str, name: str, reads: Collection[str] | None) -> str:
        """The queue of a task without a task-sent: where its message was, else that of the others of its name.

        Args:
            uuid: Of the task.
            name: Of the task.
            reads: The queues that its worker reads; it is one of them.
        """
        known, queue = self._seen.get(uuid, ("", ""))
        if known == name:
            return queue
        learned = self.queue(name)
        if not reads:
            return learned
        if learned:
            return learned if learned in reads else ""
        return next(iter(reads)) if len(reads) == 1 else ""

    def queue(self, name: str) -> str:
        """The queue; "" where it is not known or one of several."""
        known = self._young.get(name)
        return self._old.get(name, "") if known is None else known

    def learn(self, name: str, queue: str) -> None:
        """A task of this name went to this queue."""
        known = self._young.get(name)
        if known is None:
            if len(self._young) < NAMES:
                self._young[name] = queue if self._old.get(name, queue) == queue else ""
        elif known and known != queue:
            self._young[name] = ""

    def sweep(self, now: float) -> None:
        """Begin the next generation where it is time to."""
        if not 0 <= now - self._begun < LASTS:
            self._old, self._young, self._begun = self._young, {}, now
