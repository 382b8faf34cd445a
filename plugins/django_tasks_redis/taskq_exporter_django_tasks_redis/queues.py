"""What to ask Redis about one queue, and what the replies say. Pure: no I/O.

django-tasks-redis 0.4 keeps an index: sorted sets of task ids by status and the time that the task entered it. Tasks
stored before it had one are in the streams only: then waiting and held tasks are counted there, and finished ones
cannot be counted. Entries older than the TTL are ghosts: the index keeps them after their task has expired, and they
are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskq_exporter.api import LongestRun, QueueStats, State
from taskq_exporter_django_tasks_redis.keys import FAILED, LEVELS, READY, RUNNING, SUCCESSFUL, Keys
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

Command = tuple[str | float, ...]

#: Longest running tasks of a queue whose names are read.
NAMED_RUNS = 20
#: Held entries of a stream that are looked through for the longest run, where there is no index.
HELD_ENTRIES = 100
#: Consumers of a stream that are read; where the workers' names never return, those that were killed add up.
MANY_CONSUMERS = 1_000


@dataclass(frozen=True, slots=True)
class View:
    """What the questions of one collect have in common."""

    keys: Keys
    options: DjangoTasksRedisOptions
    now: float  # the server's clock, in Unix seconds
    indexed: bool  # the index covers every stored task


def questions(view: View, queue: str) -> dict[str, Command]:
    """The commands of the first round; the names are those of `answers`."""
    keys, now = view.keys, repr(view.now)
    kept = _not_before(view.now, view.options.result_ttl)
    ended = _not_before(view.now, view.options.finished_ttl)
    ask: dict[str, Command] = {"overdue": ("ZCOUNT", keys.delayed(queue), kept, now)}
    if view.indexed:
        # A delayed task is READY with the time when it becomes due: one set tells both, so no task is in two states.
        ready, running = keys.status(READY, queue), keys.status(RUNNING, queue)
        ask |= {
            "ready": ("ZCOUNT", ready, kept, now),
            "scheduled": ("ZCOUNT", ready, f"({now}", "+inf"),
            "running": ("ZCOUNT", running, kept, "+inf"),
            "succeeded": ("ZCOUNT", keys.status(SUCCESSFUL, queue), ended, "+inf"),
            "failed": ("ZCOUNT", keys.status(FAILED, queue), ended, "+inf"),
            "oldest ready": ("ZRANGEBYSCORE", ready, kept, now, "WITHSCORES", "LIMIT", 0, 1),
            "longest runs": ("ZRANGEBYSCORE", running, kept, "+inf", "WITHSCORES", "LIMIT", 0, NAMED_RUNS),
        }
    else:
        delayed = keys.delayed(queue)
        ask |= {
            "scheduled": ("ZCOUNT", delayed, f"({now}", "+inf"),
            "oldest overdue": ("ZRANGEBYSCORE", delayed, kept, now, "WITHSCORES", "LIMIT", 0, 1),
        }
    for level in LEVELS:
        stream = keys.stream(queue, level)
        ask[f"stream {level}"] = ("XINFO", "STREAM", stream)
        ask[f"groups {level}"] = ("XINFO", "GROUPS", stream)
        if not view.indexed:
            ask[f"held {level}"] = ("XPENDING", stream, view.options.group, "-", "+", HELD_ENTRIES)
    return ask


def more_questions(view: View, queue: str, answers: Mapping[str, Any]) -> dict[str, Command]:
    """The commands of the second round, which depend on the first one's answers."""
    keys = view.keys
    ask: dict[str, Command] = {}
    for i, (task_id, _) in enumerate(_scored(answers.get("longest runs"))):
        ask[f"name {i}"] = ("HGET", keys.result(task_id), "task_path")
    for level in LEVELS:
        if 0 < _consumers(view, answers, level) <= MANY_CONSUMERS:
            ask[f"consumers {level}"] = ("XINFO", "CONSUMERS", keys.stream(queue, level), view.options.group)
    if not view.indexed:
        for level in LEVELS:
            stream = _stream(answers, level, view.options.group)
            if stream and stream.waiting:
                first = f"({stream.last_delivered}" if stream.last_delivered else "-"
                ask[f"head {level}"] = ("XRANGE", keys.stream(queue, level), first, "+", "COUNT", 1)
    return ask


def queue_stats(view: View, queue: str, answers: Mapping[str, Any], consumers: int | None) -> QueueStats:
    """One queue as both rounds' answers describe it; an answer that is not there is not known.

    Args:
        view: As for the questions.
        queue: Its name.
        answers: Replies by the names of the questions.
        consumers: Workers that read it, which run one task each.
    """
    streams = {level: _stream(answers, level, view.options.group) for level in LEVELS}
    known = {level: stream for level, stream in streams.items() if stream is not None}
    tasks = {
        state: int(answers[name])
        for name, state in (
            ("ready", State.READY),
            ("scheduled", State.SCHEDULED),
            ("running", State.RUNNING),
            ("succeeded", State.SUCCEEDED),
            ("failed", State.FAILED),
        )
        if name in answers
    }
    oldest = {}
    if view.indexed:
        for name, state in (("oldest ready", State.READY), ("longest runs", State.RUNNING)):
            if name in answers:
                oldest[state] = max((view.now - score for _, score in _scored(answers[name])), default=0.0)
    elif len(known) == len(LEVELS) and "overdue" in answers:
        tasks[State.READY] = sum(s.waiting for s in known.values()) + int(answers["overdue"])
        tasks[State.RUNNING] = sum(s.held for s in known.values())
        oldest = _ages_by_streams(view, answers)
    by_priority = {(State.READY, level): s.waiting for level, s in known.items()}
    by_priority |= {(State.RUNNING, level): s.held for level, s in known.items()}
    return QueueStats(
        name=queue,
        tasks=tasks,
        by_priority=by_priority,
        overdue=answers.get("overdue"),
        oldest_age={state: max(age, 0.0) for state, age in oldest.items()},
        consumers=consumers,
        slots=consumers,
        enqueued={level: s.added for level, s in known.items() if s.added is not None},
    )


def longest_runs(view: View, queue: str, answers: Mapping[str, Any]) -> list[LongestRun]:
    """The longest run of each task name among the longest running tasks of a queue."""
    runs: dict[str, float] = {}
    for i, (_, since) in enumerate(_scored(answers.get("longest runs"))):
        path = answers.get(f"name {i}")
        if isinstance(path, bytes):
            runs.setdefault(path.decode(errors="replace"), max(view.now - since, 0.0))  # the oldest come first
    return [LongestRun(queue=queue, task=task, seconds=seconds) for task, seconds in runs.items()]


def consumer_rows(answers: Mapping[str, Any]) -> Iterable[Mapping[bytes, Any]]:
    """XINFO CONSUMERS of all streams of a queue."""
    for level in LEVELS:
        yield from (as_dict(row) for row in answers.get(f"consumers {level}") or ())


def crowded(view: View, answers: Mapping[str, Any]) -> bool:
    """True where a stream of a queue lists more consumers than are read."""
    return any(_consumers(view, answers, level) > MANY_CONSUMERS for level in LEVELS)


def counts_added(answers: Iterable[Mapping[str, Any]]) -> bool:
    """False where a stream does not tell how many entries were ever added: the server is older than Redis 7."""
    streams = (of_queue.get(f"stream {level}") for of_queue in answers for level in LEVELS)
    return all(b"entries-added" in as_dict(stream) for stream in streams if stream)


def as_dict(flat: Sequence[Any]) -> dict[bytes, Any]:
    """A map of RESP2, which comes as a flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class _Stream:
    waiting: int  # not given to any worker
    held: int  # given to one, not acknowledged
    added: int | None  # ever; None before Redis 7
    last_delivered: str


def _stream(answers: Mapping[str, Any], level: str, group: str) -> _Stream | None:
    """One stream; None where it could not be read. Redis calls a stream that does not exist a missing key: empty."""
    if f"stream {level}" not in answers or f"groups {level}" not in answers:
        return None
    info = answers[f"stream {level}"]
    if info is None:
        return _Stream(waiting=0, held=0, added=0, last_delivered="")
    info = as_dict(info)
    ours = _group(answers, level, group)
    held = int(ours[b"pending"]) if ours else 0
    # Not the group's lag: it is unknown after every entry that is deleted out of order. The three replies are not one
    # moment, and a worker acknowledges before it deletes: never below 0.
    return _Stream(
        waiting=max(int(info[b"length"]) - held, 0),
        held=held,
        added=info.get(b"entries-added"),
        last_delivered=ours[b"last-delivered-id"].decode() if ours else "",
    )


def _group(answers: Mapping[str, Any], level: str, group: str) -> dict[bytes, Any] | None:
    """The workers' group of one stream; None where it is not there or could not be read."""
    rows = (as_dict(row) for row in answers.get(f"groups {level}") or ())
    return next((row for row in rows if row[b"name"] == group.encode()), None)


def _consumers(view: View, answers: Mapping[str, Any], level: str) -> int:
    ours = _group(answers, level, view.options.group)
    return int(ours[b"consumers"]) if ours else 0


def _ages_by_streams(view: View, answers: Mapping[str, Any]) -> dict[State, float]:
    """Ages without the index: an entry's id is the server's clock in milliseconds, idle since it was given out."""
    waiting = [view.now - score for _, score in _scored(answers.get("oldest overdue"))]
    for level in LEVELS:
        for entry_id, _ in answers.get(f"head {level}") or ():
            waiting.append(view.now - int(entry_id.split(b"-")[0]) / 1000)
    running = [row[2] / 1000 for level in LEVELS for row in answers.get(f"held {level}") or ()]
    return {State.READY: max(waiting, default=0.0), State.RUNNING: max(running, default=0.0)}


def _scored(flat: Sequence[bytes] | None) -> list[tuple[str, float]]:
    """Members and scores of a sorted set, as WITHSCORES lists them."""
    flat = flat or ()
    return [(m.decode(errors="replace"), float(s)) for m, s in zip(flat[::2], flat[1::2], strict=True)]


def _not_before(now: float, ttl: float) -> str:
    """The lowest score whose task has not expired."""
    return repr(now - ttl) if ttl else "-inf"
