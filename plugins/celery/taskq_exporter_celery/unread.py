"""Queues with work that nobody reads, whoever tells of the readers: the broker, or workers that were asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskq_exporter.api import Finding, Snapshot, State

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower


def findings(snapshot: Snapshot, follower: Follower | None) -> list[Finding]:
    """One line for all queues that have ready tasks and no consumers; none where consumers are not known."""
    readers = _readers(follower)
    stuck = {}
    for queue in snapshot.queues:
        consumers = queue.consumers
        if consumers is None and readers is not None:
            consumers = readers.get(queue.name, (0, 0))[0]
        if consumers == 0 and queue.name and (ready := queue.tasks.get(State.READY)):
            stuck[queue.name] = ready
    if not stuck:
        return []
    worst = max(stuck, key=lambda name: stuck[name])
    many = f"{len(stuck)} queues have" if len(stuck) > 1 else "a queue has"
    text = f"{many} ready tasks and no worker that reads it: {worst} with {stuck[worst]} tasks"
    return [Finding(level="problem", text=text, advice=f"start a worker with -Q {worst}, or exclude the queue")]


def _readers(follower: Follower | None) -> Mapping[str, tuple[int, int]] | None:
    """Consumers by queue where all workers have told what they read."""
    if follower is None or any(worker.up and worker.queues is None for worker in follower.workers):
        return None
    told = follower.inspected.capabilities(follower.workers)
    if not any(c.able for c in told if c.family == "taskq_queue_consumers"):
        return None
    return follower.inspected.readers(follower.workers)
