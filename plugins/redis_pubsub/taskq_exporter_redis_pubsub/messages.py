"""What the allocator publishes, read strictly: anybody may write to a channel. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

from taskq_exporter_redis_pubsub.names import PRIORITY, TASKS, WORKER

__all__ = ["MAX_BYTES", "Allocated", "Published", "UndecodableError", "is_name", "naive_utc", "read"]

#: A longer message is not read: it holds the arguments of a task, which nobody here wants.
MAX_BYTES = 1 << 20
NAME_LENGTH = 256
#: Priorities from here on are published on the channel for high ones too.
HIGH = 8
#: Seconds that a time in a message may be off: none is stored, so that an older one is of a wrong clock or time zone.
PLAUSIBLE = 3600.0


class UndecodableError(Exception):
    """A message that is none of the allocator's."""


@dataclass(frozen=True, slots=True)
class Published:
    """A task on a channel of its queue."""

    queue: str
    task: str
    high: bool | None  # None: the message names no priority
    again: bool  # on the channel for high priorities, beside the queue's own
    seconds: float | None  # since its timestamp; None: not known


@dataclass(frozen=True, slots=True)
class Allocated:
    """A task on the channel of the worker that it is given to."""

    queue: str
    task: str
    worker: str
    method: str
    seconds: float | None  # since it was allocated; None: not known


def read(channel: bytes, payload: bytes, now: float) -> Published | Allocated:
    """The message on a channel; `now` in Unix seconds. Raises UndecodableError."""
    where = channel.decode(errors="replace")
    said = _mapping(payload)
    queue, task = said.get("queue"), said.get("task_name")
    if not is_name(queue) or not is_name(task):
        raise UndecodableError
    if where in (TASKS + queue, PRIORITY + queue):
        priority = said.get("priority")
        high = priority >= HIGH if isinstance(priority, int | float) else None
        return Published(queue, task, high, where != TASKS + queue, _since(said.get("timestamp"), now))
    worker, method = where.removeprefix(WORKER), said.get("allocation_method", "")
    if worker == where or not worker or not isinstance(method, str):
        raise UndecodableError
    return Allocated(queue, task, worker, method, _since(said.get("allocated_at"), now))


def is_name(value: Any) -> TypeGuard[str]:
    """Whether it may be the name of a queue or a task."""
    return isinstance(value, str) and 0 < len(value) <= NAME_LENGTH and value.isprintable()


def naive_utc(text: str) -> float | None:
    """A time in ISO 8601, which without a zone is UTC, in Unix seconds; None where it is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _mapping(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        raise UndecodableError
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        raise UndecodableError from None
    if not isinstance(said, dict):
        raise UndecodableError
    return said


def _since(text: Any, now: float) -> float | None:
    at = naive_utc(text) if isinstance(text, str) else None
    if at is None or abs(now - at) > PLAUSIBLE:
        return None
    return max(now - at, 0.0)  # clocks differ
