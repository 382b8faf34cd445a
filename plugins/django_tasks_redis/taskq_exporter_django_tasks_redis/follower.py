"""Counts what finished: cursors over the sorted sets of succeeded and failed tasks, on a timer.

The sets of the whole backend are read, not those of each queue: two cursors, and a queue counts from its first task.
A task's hash holds arguments and results: named fields are read, never all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskq_exporter_redis import Entry, RedisClient, ZsetCursor

from taskq_exporter.api import AdapterError, DropReason, Ledger, Outcome, Reason
from taskq_exporter_django_tasks_redis.keys import FAILED, SUCCESSFUL, Keys
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

#: A failed task that was retried can fail again; failed first, so that a retry that succeeds is counted after it.
OUTCOMES = {FAILED: Outcome.FAILED, SUCCESSFUL: Outcome.SUCCEEDED}
#: Finished tasks read in one round trip.
PAGE = 500
#: errors_json holds tracebacks: longer ones are not read, and their exception is not counted.
ERRORS_BYTES = 65_536
#: Failed tasks whose attempts are remembered, oldest forgotten first.
REMEMBERED = 10_000
#: What a task's workers died of; written by whoever gave it up, so the attempt has no end.
ABANDONED = "django_tasks_redis.exceptions.TaskAbandoned"

_FIELDS = (
    "queue_name", "task_path", "status", "enqueued_at", "run_after", "started_at", "last_attempted_at", "finished_at",
    "worker_ids_json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """The fields of a task's hash that are read; times as the library wrote them, "" where not set."""

    queue_name: str
    task_path: str
    status: str
    enqueued_at: str
    run_after: str
    started_at: str  # of the first attempt
    last_attempted_at: str
    finished_at: str
    worker_ids_json: str
    exception: str = ""  # class path of the last error, where it was read

    @property
    def attempts(self) -> int:
        """Starts so far: each adds the worker's id."""
        try:
            return len(json.loads(self.worker_ids_json or "[]"))
        except (ValueError, TypeError, RecursionError):
            return 0

    @property
    def ran(self) -> float | None:
        """Seconds of the last attempt; None where nobody knows when it ended."""
        return None if self.exception == ABANDONED else _seconds(self.last_attempted_at, self.finished_at)

    @property
    def waited(self) -> float | None:
        """Seconds from runnable to started; None after a retry, whose enqueued_at is that of the first attempt."""
        if self.started_at != self.last_attempted_at:
            return None
        waits = [_seconds(since, self.started_at) for since in (self.enqueued_at, self.run_after) if since]
        known = [seconds for seconds in waits if seconds is not None]
        return min(known) if known and len(known) == len(waits) else None


class Follower:
    """Feeds a ledger. Counting and moving the cursors is one step without an await: no restart loses or repeats."""

    def __init__(self, client: RedisClient, keys: Keys, options: DjangoTasksRedisOptions, ledger: Ledger) -> None:
        self._client = client
        self._keys = keys
        self._options = options
        self._ledger = ledger
        self._cursors: dict[str, ZsetCursor] = {}
        self._looked = 0.0  # up to when everything that had finished has been counted
        self._attempts: dict[str, int] = {}  # of failed tasks that were retried: how many are counted already

    async def run(self) -> None:
        """Follow until cancelled. Raises AdapterError."""
        self._ledger.counts("retried", "finished")
        await self.start()
        while True:
            await self.poll()
            await asyncio.sleep(self._options.poll_interval)

    async def start(self) -> None:
        """Go on where the ledger's cursor stands; without one, count from now on."""
        now = await self._client.time()
        self._ledger.events(0)  # known: none yet
        if self._ledger.cursor is not None and (misfit := self._restore(now)):
            self._ledger.start_over(misfit)
        if self._ledger.cursor is None:
            self._cursors = {
                status: ZsetCursor(self._keys.status(status), overlap=self._options.overlap, position=now)
                for status in OUTCOMES
            }
            self._looked = now
            for cursor in self._cursors.values():  # what has finished already is not counted
                async for page in cursor.pages(self._client):
                    cursor.advance(page, now)
            self._save()

    async def poll(self) -> None:
        """Count what has finished since the last poll, page by page."""
        sent = self._client.commands_sent
        now = await self._client.time()
        for status, cursor in self._cursors.items():
            async for page in cursor.pages(self._client, size=PAGE):
                if not page:  # all of it was counted before
                    continue
                tasks = await self._read(page, errors=status == FAILED)
                # From here to the end of the page: no await.
                for entry, task in zip(page, tasks, strict=True):
                    self._count(entry, task, OUTCOMES[status])
                cursor.advance(page, now)
                self._save()
                self._ledger.events(len(page))
                self._ledger.commands(self._client.commands_sent - sent)
                sent = self._client.commands_sent
                if len(page) == PAGE:
                    self._ledger.following(max(now - cursor.position, 0.0))
        self._looked = now
        self._save()
        self._ledger.commands(self._client.commands_sent - sent)
        self._ledger.following(0.0)

    def _restore(self, now: float) -> str:
        """Take over the ledger's cursor; why it does not fit, where it does not."""
        try:
            saved = self._ledger.cursor
            self._cursors = {
                status: ZsetCursor.restore(self._keys.status(status), saved[status], overlap=self._options.overlap)
                for status in OUTCOMES
            }
            self._looked = float(saved["looked"])
            self._attempts = {str(task): int(n) for task, n in saved["attempts"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            return "its cursor is not one of this version"
        if max(self._looked, *(c.position for c in self._cursors.values())) > now + self._options.overlap:
            return "its cursor is ahead of the server's clock"
        ttl = self._options.finished_ttl
        if ttl and self._looked < now - ttl:
            self._ledger.gap()  # what finished right after has expired
        return ""

    def _save(self) -> None:
        self._ledger.cursor = {
            **{status: cursor.state for status, cursor in self._cursors.items()},
            "looked": self._looked,
            "attempts": dict(self._attempts),
        }

    async def _read(self, page: Sequence[Entry], *, errors: bool) -> list[Task | None]:
        """The tasks of a page; None for one that has expired, was deleted or is no hash."""
        keys = [self._keys.result(entry.member) for entry in page]
        rows = await self._all([("HMGET", key, *_FIELDS) for key in keys])
        tasks = [Task(*(_text(value) for value in row)) if row and any(row) else None for row in rows]
        if not errors:
            return tasks
        sizes = await self._all([("HSTRLEN", key, "errors_json") for key in keys])
        small = [i for i, size in enumerate(sizes) if tasks[i] and 2 < (size or 0) <= ERRORS_BYTES]
        texts = await self._all([("HGET", keys[i], "errors_json") for i in small])
        for i, text in zip(small, texts, strict=True):
            if task := tasks[i]:
                values = {name: getattr(task, name) for name in _FIELDS}
                tasks[i] = Task(**values, exception=_last_exception(_text(text)))
        return tasks

    async def _all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The replies; None for a key of another type, which must not hold up the tasks beside it."""
        replies = await self._client.pipeline(commands)
        for reply in replies:
            if isinstance(reply, AdapterError) and reply.reason is not Reason.PROTOCOL:
                raise reply
        return [None if isinstance(reply, AdapterError) else reply for reply in replies]

    def _count(self, entry: Entry, task: Task | None, outcome: Outcome) -> None:
        if task is None:  # it ended, but nothing says which queue's it was
            self._ledger.dropped(DropReason.MISSED)
            return
        ended_here = _is_time(task.finished_at, entry.score)
        if not ended_here and task.status == FAILED and outcome is Outcome.FAILED and _earlier(task.finished_at, entry):
            # Given up by a sweep, which marks the task failed first and writes down its end, with a new score, after.
            return
        # All that may fail comes before the first count: a poll that ends here is made again.
        attempts, ran, waited = task.attempts, task.ran, task.waited
        queue, path = task.queue_name, task.task_path
        self._ledger.finished(queue, path, outcome)
        counted = self._attempts.pop(entry.member, 1)
        if attempts > counted:
            self._ledger.retried(queue, path, n=attempts - counted)
        if outcome is Outcome.FAILED and attempts > 1:
            self._attempts[entry.member] = max(attempts, counted)
            if len(self._attempts) > REMEMBERED:
                del self._attempts[next(iter(self._attempts))]
        if not ended_here:  # it runs again already: these are the times of another attempt
            return
        if task.exception:
            self._ledger.exception(queue, path, task.exception.rpartition(".")[2])
        if ran is not None:
            self._ledger.ran(queue, path, outcome, max(ran, 0.0))
        if waited is not None:
            self._ledger.waited(queue, max(waited, 0.0), path)


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _last_exception(errors_json: str) -> str:
    """The class path of the last of the errors; the tracebacks beside it are dropped at once."""
    try:
        return str(json.loads(errors_json)[-1]["exception_class_path"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _seconds(start: str, end: str) -> float | None:
    """From start to end; None where one is not set, or one names its zone and the other does not."""
    since, until = _time(start), _time(end)
    if since is None or until is None or (since.tzinfo is None) != (until.tzinfo is None):
        return None
    return (until - since).total_seconds()


def _offset(text: str, score: float) -> float | None:
    """Seconds from a score to a time of the hash; where the project has USE_TZ=False, apart from its zone."""
    at = _time(text)
    if at is None:
        return None
    if at.tzinfo is not None:
        return at.timestamp() - score
    return (at.replace(tzinfo=UTC).timestamp() - score + 450) % 900 - 450  # zones differ by quarters of an hour


def _is_time(text: str, score: float) -> bool:
    offset = _offset(text, score)
    return offset is not None and abs(offset) < 1e-4


def _earlier(text: str, entry: Entry) -> bool:
    offset = _offset(text, entry.score)
    return offset is None or offset < 0
