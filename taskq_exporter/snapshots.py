"""Snapshots on their way to the page: the follower's view merged in, known queues at 0. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from taskq_exporter.api import Capability, QueueStats, SchedulerStats, Snapshot, State, WorkerStats

__all__ = ["merge", "undeclared", "with_known_queues"]

_Record = TypeVar("_Record", QueueStats, WorkerStats, SchedulerStats)


def merge(base: Snapshot, view: Snapshot) -> Snapshot:
    """Both together; where both say something of the same thing, `view` (what the follower sees now) wins."""
    return replace(
        base,
        server=view.server or base.server,
        server_version=view.server_version or base.server_version,
        queues=_merge_by_name(base.queues, view.queues),
        longest_runs=(*base.longest_runs, *view.longest_runs),
        workers=_merge_by_name(base.workers, view.workers),
        worker_states={**base.worker_states, **view.worker_states},
        schedulers=_merge_by_name(base.schedulers, view.schedulers),
        broker=view.broker or base.broker,
        capabilities=tuple({(c.family, c.state): c for c in (*base.capabilities, *view.capabilities)}.values()),
        problems=(*base.problems, *view.problems),
        commands=base.commands + view.commands,
        query_seconds={**base.query_seconds, **view.query_seconds},
        samples=(*base.samples, *view.samples),
    )


def _merge_by_name(base: Sequence[_Record], view: Sequence[_Record]) -> Sequence[_Record]:
    if not view:
        return base
    merged = list(base)  # duplicates within one snapshot stay, for the collector to find
    at = {record.name: i for i, record in enumerate(merged)}
    for record in view:
        if record.name in at:
            merged[at[record.name]] = _overlay(merged[at[record.name]], record)
        else:
            at[record.name] = len(merged)
            merged.append(record)
    return merged


def _overlay(base: _Record, view: _Record) -> _Record:
    """`base` with every field that `view` knows; mappings are joined."""
    changes: dict[str, Any] = {}
    for f in fields(view):
        new, old = getattr(view, f.name), getattr(base, f.name)
        if isinstance(new, Mapping):
            changes[f.name] = {**old, **new}
        elif new is not None and new != "" and new != ():
            changes[f.name] = new
    return replace(base, **changes)


def with_known_queues(snapshot: Snapshot, known: Iterable[str]) -> Snapshot:
    """Add at 0 what the backend deleted because it is empty: states that this source can tell, of queues once seen.

    Where a part could not be read, what a queue does not tell is not known, and so is not 0.
    """
    able = {(c.family, c.state) for c in snapshot.capabilities if c.able}
    seen = {queue.name for queue in snapshot.queues}

    def states(family: str, told: Iterable[State]) -> list[State]:
        told = set(told)
        return [s for s in State if (family, s) in able and (s in told or not snapshot.problems)]

    tasks = states("taskq_tasks", (s for q in snapshot.queues for s in q.tasks))
    ages = states("taskq_oldest_task_age_seconds", (s for q in snapshot.queues for s in q.oldest_age))
    missing = dict.fromkeys(known) if snapshot.queues_complete else ()
    gone = (QueueStats(name=name) for name in missing if name not in seen)
    here = snapshot.queues if snapshot.problems else ()
    empty = gone if snapshot.problems else (*snapshot.queues, *gone)
    filled = (
        replace(
            queue,
            tasks={**dict.fromkeys(tasks, 0), **queue.tasks},
            # the age of tasks that are there is not 0 because nobody knows it
            oldest_age={**{state: 0.0 for state in ages if not queue.tasks.get(state)}, **queue.oldest_age},
        )
        for queue in empty
    )
    return replace(snapshot, queues=(*here, *filled))


def undeclared(snapshot: Snapshot) -> list[Capability]:
    """States that queues report without the source saying that it can tell them; empty where it is honest."""
    able = {(c.family, c.state) for c in snapshot.capabilities if c.able}
    told = {("taskq_tasks", s) for q in snapshot.queues for s in q.tasks}
    told |= {("taskq_oldest_task_age_seconds", s) for q in snapshot.queues for s in q.oldest_age}
    return [Capability(family=family, state=state) for family, state in sorted(told - able)]
