"""What this source can tell: by the library's version, the server's, and the rights of its user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from taskq_exporter.api import Capability, Problem, Reason

_What = tuple[str, str]  # family, state

_TASKS, _AGE, _LEVELS = "taskq_tasks", "taskq_oldest_task_age_seconds", "taskq_tasks_by_priority"
_STATES = ("ready", "scheduled", "running", "succeeded", "failed")
_ENQUEUED: _What = ("taskq_tasks_enqueued_total", "")
_LONGEST: _What = ("taskq_task_longest_run_seconds", "")
_WORKERS: tuple[_What, ...] = (
    ("taskq_queue_consumers", ""),
    ("taskq_queue_slots", ""),
    ("taskq_workers", ""),
)
#: What the follower counts.
_FINISHED: tuple[_What, ...] = (
    ("taskq_tasks_finished_total", ""),
    ("taskq_tasks_retried_total", ""),
    ("taskq_task_exceptions_total", ""),
    ("taskq_task_run_duration_seconds", ""),
    ("taskq_task_wait_duration_seconds", ""),
)
_ALL: tuple[_What, ...] = (
    *((_TASKS, state) for state in _STATES),
    *((_LEVELS, state) for state in ("ready", "running")),
    *((_AGE, state) for state in ("ready", "running")),
    ("taskq_tasks_overdue", ""),
    _LONGEST,
    *_WORKERS,
    _ENQUEUED,
    *_FINISHED,
)
#: Nothing outside the workers tells a start or a lost lease.
_NEVER: tuple[_What, ...] = (("taskq_tasks_started_total", ""), ("taskq_tasks_redelivered_total", ""))

_INDEX = "use django-tasks-redis 0.4 and run `manage.py rebuild_redis_status_index` once"
_REDIS_7 = "use Redis 7, which counts what is added to a stream"

_SPLIT: tuple[_What, ...] = ((_LEVELS, "ready"), (_LEVELS, "running"))
#: What is missing where a part of the snapshot could not be read, with the index and without.
_PARTS_INDEXED: dict[str, tuple[_What, ...]] = {
    **{state: ((_TASKS, state),) for state in _STATES},
    "overdue": (("taskq_tasks_overdue", ""),),
    "oldest": ((_AGE, "ready"),),
    "longest": ((_AGE, "running"), _LONGEST),
    "name": (_LONGEST,),
    "stream": (*_SPLIT, _ENQUEUED),
    "groups": (*_SPLIT, *_WORKERS),
    "consumers": _WORKERS,
}
_COUNTED: tuple[_What, ...] = ((_TASKS, "ready"), (_TASKS, "running"), (_AGE, "ready"), (_AGE, "running"))
_PARTS_STREAMS: dict[str, tuple[_What, ...]] = {
    **_PARTS_INDEXED,
    "overdue": (("taskq_tasks_overdue", ""), *_COUNTED),
    "stream": (*_SPLIT, _ENQUEUED, *_COUNTED),
    "groups": (*_SPLIT, *_WORKERS, *_COUNTED),
    "head": ((_AGE, "ready"),),
    "held": ((_AGE, "running"),),
}


def capabilities(*, indexed: bool, finishes: bool, counts_added: bool, problems: Iterable[Problem]) -> list[Capability]:
    """What can be told, and why the rest cannot.

    Args:
        indexed: The index covers every stored task (django-tasks-redis 0.4).
        finishes: Workers write the index, so that the follower sees what they finish.
        counts_added: Streams know how many entries were ever added (Redis 7).
        problems: Parts that could not be read.
    """
    reasons: dict[_What, Literal["version", "permission", "backend"]] = dict.fromkeys(_NEVER, "backend")
    if not indexed:
        reasons |= dict.fromkeys(((_TASKS, "succeeded"), (_TASKS, "failed"), _LONGEST), "version")
    if not finishes:
        reasons |= dict.fromkeys(_FINISHED, "version")
    if not counts_added:
        reasons[_ENQUEUED] = "version"
    parts = _PARTS_INDEXED if indexed else _PARTS_STREAMS
    for problem in problems:
        if problem.reason is Reason.PERMISSION:
            reasons |= dict.fromkeys(parts.get(problem.part, ()), "permission")
    advice = {what: _REDIS_7 if what == _ENQUEUED else _INDEX for what, why in reasons.items() if why == "version"}
    return [
        Capability(family=what[0], state=what[1], reason=reasons.get(what, "none"), advice=advice.get(what, ""))
        for what in (*_ALL, *_NEVER)
    ]
