"""Workers by the hashes in which they register, their channels, and the keys of their active tasks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskq_exporter.api import WorkerState, WorkerStats
from taskq_exporter_redis_pubsub.messages import is_name, naive_utc

__all__ = ["FIELDS", "Worker", "worker_of"]

#: What is read of a hash; its `capabilities` are nobody's business.
FIELDS = ("name", "queues", "status", "pool_size", "registered_at")
#: A longer list of queues is not read.
QUEUES_BYTES = 65_536

_STATES = {
    "paused": WorkerState.PAUSED,
    "draining": WorkerState.DRAINING,
    "offline": WorkerState.OFFLINE,
    "stopped": WorkerState.OFFLINE,
}


@dataclass(frozen=True, slots=True)
class Worker:
    """A registered worker."""

    stats: WorkerStats
    queues: tuple[str, ...]


def worker_of(
    name: str, fields: Sequence[bytes | None], listens: bool | None, active: Mapping[str, int] | None
) -> Worker | None:
    """What is known of a worker; None where the hash is none of a worker.

    Args:
        name: By the key.
        fields: The values of FIELDS.
        listens: Whether anybody listens to its channel; None: not known.
        active: How many tasks each worker runs; None: not known.
    """
    if not any(fields[:3]):
        return None
    _, queues, status, pool_size, registered = (value.decode(errors="replace") if value else "" for value in fields)
    running = None if active is None else active.get(name, 0)
    stats = WorkerStats(
        name=name,
        up=listens,
        state=_state(status.lower(), listens, running),
        slots=int(pool_size) if pool_size.isascii() and pool_size.isdigit() and len(pool_size) < 10 else None,
        tasks={} if running is None else {"running": running},
        started=naive_utc(registered),
    )
    return Worker(stats, _names(queues))


def _state(status: str, listens: bool | None, running: int | None) -> WorkerState | None:
    if listens is False:
        return WorkerState.OFFLINE
    if status in _STATES:
        return _STATES[status]
    if listens is None or running is None:
        return None
    return WorkerState.BUSY if running else WorkerState.IDLE


def _names(text: str) -> tuple[str, ...]:
    """The queues of a list: JSON, as Python prints it, or words between commas."""
    if len(text) > QUEUES_BYTES:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = [name.strip(" '\"") for name in text.strip("[]() ").split(",")]
    return tuple(dict.fromkeys(filter(is_name, names if isinstance(names, list) else [names])))
