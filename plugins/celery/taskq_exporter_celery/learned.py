"""Which queue a task is of where no task-sent tells. Pure.

Where others of its name went says nothing: a name may go to several queues, and be seen in one of them alone.
"""

from __future__ import annotations

from collections.abc import Collection

#: Messages to remember.
MESSAGES = 20_000


def the_only(reads: Collection[str] | None) -> str:
    """The one queue that a worker reads; "" where it reads several, or nobody told."""
    return next(iter(reads)) if reads and len(reads) == 1 else ""


class Learned:
    """The queues of messages that were seen, each of one try of a task."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int, str]] = {}  # name, try and queue by task id

    def saw(self, uuid: str, name: str, retries: int, queue: str) -> None:
        """The message of this try lies in this queue, or was taken from it."""
        if len(self._seen) >= MESSAGES and uuid not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[uuid] = name, retries, queue

    def queue_of(self, uuid: str, name: str, retries: int, reads: Collection[str] | None) -> str:
        """The queue of a try: where its message was seen, else the only one that its worker reads, else ""."""
        *of, queue = self._seen.get(uuid, ("", 0, ""))
        if of == [name, retries]:
            return queue
        return the_only(reads)
