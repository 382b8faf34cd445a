"""Where django-tasks-redis keeps what. Verified with 0.4.0, 0.3.0 and 0.2.1.

A backend `alias` of a project with key prefix `prefix` owns the keys below `prefix:alias:`. Queue names may hold
colons, so a key is taken apart by its known ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskq_exporter_redis import escape_glob

LEVELS = ("high", "normal", "low")  # priority above, at and below 0

READY, RUNNING, SUCCESSFUL, FAILED = STATUSES = ("READY", "RUNNING", "SUCCESSFUL", "FAILED")

_ENDS = (
    *(f":stream:{level}" for level in LEVELS),
    *(f":status_index:{status}" for status in STATUSES),
    ":delayed",
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one backend."""

    prefix: str
    alias: str

    @property
    def root(self) -> str:
        """What every key of the backend begins with."""
        return f"{self.prefix}:{self.alias}:"

    @property
    def results(self) -> str:
        """Set of the ids of all tasks ever stored; members of expired tasks stay."""
        return f"{self.root}results_index"

    @property
    def index_built(self) -> str:
        """Exists where the status index covers every stored task (since 0.4.0)."""
        return f"{self.root}status_index_built"

    def result(self, task_id: str) -> str:
        """Hash of one task. It holds arguments, results and tracebacks: read named fields only."""
        return f"{self.root}result:{task_id}"

    def stream(self, queue: str, level: str) -> str:
        """Stream of a queue's waiting and held tasks of one priority level."""
        return f"{self.root}{queue}:stream:{level}"

    def delayed(self, queue: str) -> str:
        """Sorted set of tasks that wait for their time (the score) and for a worker that moves them."""
        return f"{self.root}{queue}:delayed"

    def status(self, status: str, queue: str = "") -> str:
        """Sorted set of the tasks in a status, by the time they entered it; of all queues where none is named."""
        return f"{self.root}{queue}{':' if queue else ''}status_index:{status}"

    @property
    def queue_pattern(self) -> str:
        """Glob of every key of a queue and of no result, of which there are far more: those end in a UUID."""
        telling = "".join(sorted({end[-3] for end in _ENDS}))  # no hexadecimal digit among them
        return f"{escape_glob(self.root)}*[{telling}]??"

    def queue_of(self, key: str) -> str | None:
        """The queue that a key belongs to; None where it is none of a queue."""
        if not key.startswith(self.root):
            return None
        rest = key.removeprefix(self.root)
        return next((rest.removesuffix(end) for end in _ENDS if rest.endswith(end) and rest != end), None)
