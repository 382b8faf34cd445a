"""From Celery's events to the ledger, whatever broker brings them. Pure: payloads and the time are given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from taskq_exporter.api import Capability, DropReason, Ledger, LongestRun, Outcome, QueueStats, Snapshot, Source, State
from taskq_exporter_celery.events import NAME_LENGTH, Event, UndecodableError, decode, exception_name
from taskq_exporter_celery.layout import parse_time
from taskq_exporter_celery.tasks import Tasks
from taskq_exporter_celery.workers import Workers

#: Seconds that the first events of a task are held back for its task-sent, which brings the queue: it comes from
#: another process, often some milliseconds after the worker's.
GRACE = 1.0
#: Most events to hold back.
HELD_BACK = 20_000
#: Seconds without a task-sent after which none is waited for.
SENT_EXPECTED = 60.0
#: Queues that events told of, for collect() to look at.
QUEUES = 1_000

_TIMEOUTS = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded"})


class Follower:
    """What is known from events of one source. It outlives connections: calling it gives what it sees now."""

    def __init__(self, source: Source, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self.workers = Workers(ledger, timeout=source.options.heartbeat_timeout, ttl=source.worker_ttl)
        self.tasks = Tasks(ledger, self.workers)
        #: Queues that events named, and when last.
        self.queues: dict[str, float] = {}
        self._queue_ttl = source.queue_ttl
        self._held_back: dict[str, tuple[float, list[Event]]] = {}
        self._held_back_count = 0
        self._last_sent: float | None = None
        self._expects_sent = True
        self._saw_task = False
        self._handlers: dict[str, Callable[[Event, float], None]] = {
            "task-received": self._received,
            "task-started": self._started,
            "task-succeeded": self._succeeded,
            "task-failed": self._failed,
            "task-retried": self._retried,
            "task-rejected": self._rejected,
            "task-revoked": self._revoked,
            "task-cancelled": self._cancelled,
        }

    def resume(self) -> None:
        """A subscription starts: what happened before is missing."""
        self._ledger.gap()
        for worker in self.workers:  # without heartbeats nothing else would tell of an end that we missed
            for run in list(worker.runs) if worker.active is None else ():
                self.tasks.drop(run, ended=True)
        self.workers.resume(self._clock())

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Count the events of some messages."""
        now = self._clock()
        total = undecodable = 0
        for payload in payloads:
            try:
                events = decode(payload)
            except UndecodableError:
                total, undecodable = total + 1, undecodable + 1
                continue
            for event in events:
                total += 1
                if not self._guarded(self._take, event, now):
                    undecodable += 1
        if total:
            self._ledger.events(total)
        if undecodable:
            self._ledger.dropped(DropReason.DECODE, undecodable)

    def sweep(self) -> None:
        """What is due by now: events held back for long enough, workers that fell silent, what is to be forgotten."""
        now = self._clock()
        while self._held_back:
            uuid, (since, _) = next(iter(self._held_back.items()))
            if 0 <= now - since < GRACE and self._held_back_count <= HELD_BACK:
                break
            self._expects_sent = self._last_sent is not None and now - self._last_sent < SENT_EXPECTED
            self._release(uuid, now)
        for worker in self.workers.sweep(now):
            for run in list(worker.runs):
                self.tasks.drop(run, ended=False)
        self.tasks.sweep(now)
        while self.queues:
            queue, seen = next(iter(self.queues.items()))
            if now - seen <= self._queue_ttl and len(self.queues) <= QUEUES:
                break
            del self.queues[queue]

    # --- one event

    @staticmethod
    def _guarded(handle: Callable[[Event, float], bool | None], event: Any, now: float) -> bool:
        """False where the event could not be used: no event must end the following."""
        try:
            return handle(event, now) is not False
        except Exception:  # noqa: BLE001 - whoever can publish chooses what is in it
            return False

    def _take(self, event: Any, now: float) -> bool:
        """Count one event; False where it has not the form of one."""
        if type(event) is not dict:
            return False
        kind, at, host = event.get("type"), event.get("timestamp"), event.get("hostname")
        if type(kind) is not str or not _is_name(host) or not _is_time(at):
            return False
        if kind == "task-sent":
            return self._sent(event, now)
        handler = self._handlers.get(kind)
        if handler is None:
            self._worker_event(kind, event, now)
            return True
        uuid = event.get("uuid")
        if not _is_name(uuid) or (kind == "task-received" and not _is_name(event.get("name"))):
            return False
        if not self._saw_task:  # before that, 0 would be a guess: workers may send none
            self._saw_task = True
            self._ledger.counts("received", "started", "retried", "finished")
        if self._expects_sent:
            if uuid in self._held_back:
                self._held_back[uuid][1].append(event)
                self._held_back_count += 1
                return True
            if not self.tasks.knows(uuid):
                self._held_back[uuid] = (now, [event])
                self._held_back_count += 1
                return True
        handler(event, now)
        return True

    def _release(self, uuid: str, now: float) -> None:
        _, events = self._held_back.pop(uuid)
        self._held_back_count -= len(events)
        for event in events:
            if not self._guarded(self._handlers[event["type"]], event, now):
                self._ledger.dropped(DropReason.DECODE)

    def _worker_event(self, kind: str, event: Event, now: float) -> None:
        if kind in ("worker-heartbeat", "worker-online"):
            online = kind == "worker-online"
            for run in self.workers.restarted(event, now) if online else ():
                self.tasks.drop(run, ended=False)
            for run in self.workers.heartbeat(event, now, online=online):
                self.tasks.drop(run, ended=True)
        elif kind == "worker-offline":
            self.workers.offline(event["hostname"], now)

    def _sent(self, event: Event, now: float) -> bool:
        uuid, name, queue = event.get("uuid"), event.get("name"), event.get("queue")
        if not _is_name(uuid) or not _is_name(name):
            return False
        queue = queue if type(queue) is str else ""
        if not _is_name(queue):
            return False
        if self._last_sent is None:
            self._ledger.counts("enqueued")
        self._last_sent = now
        self._expects_sent = True
        if queue:
            self.queues.pop(queue, None)  # the latest last
            self.queues[queue] = now
        runnable = event["timestamp"]
        if event.get("eta"):
            runnable = max(runnable, parse_time(event["eta"]) or runnable)
        self.tasks.sent(uuid, name, queue, _retries(event), runnable, now)
        if uuid in self._held_back:
            self._release(uuid, now)
        return True

    def _received(self, event: Event, now: float) -> None:
        self.tasks.received(event["uuid"], event["name"], _retries(event), event["hostname"], now)

    def _started(self, event: Event, now: float) -> None:
        self.tasks.started(event["uuid"], event["hostname"], event["timestamp"], now)

    def _succeeded(self, event: Event, now: float) -> None:
        runtime = _duration(event.get("runtime"))  # null where the worker process was lost after success
        self.tasks.ended(event["uuid"], Outcome.SUCCEEDED, event["hostname"], event["timestamp"], now, runtime=runtime)

    def _failed(self, event: Event, now: float) -> None:
        exception = exception_name(event)
        outcome = Outcome.FAILED
        if exception in _TIMEOUTS:
            outcome = Outcome.TIMED_OUT
        elif exception == "Reject":  # from 5.7 on, with or without a task-rejected
            outcome, exception = Outcome.REJECTED, ""
        self.tasks.ended(event["uuid"], outcome, event["hostname"], event["timestamp"], now, exception=exception)

    def _retried(self, event: Event, now: float) -> None:
        self.tasks.ended(
            event["uuid"],
            Outcome.RETRIED,
            event["hostname"],
            event["timestamp"],
            now,
            exception=exception_name(event),
            again=True,
        )

    def _rejected(self, event: Event, now: float) -> None:
        if event.get("requeue"):
            self.tasks.ended(event["uuid"], Outcome.RETRIED, event["hostname"], event["timestamp"], now, again=True)
            self.tasks.requeued(event["uuid"])
        else:
            self.tasks.ended(event["uuid"], Outcome.REJECTED, event["hostname"], event["timestamp"], now)

    def _revoked(self, event: Event, now: float) -> None:
        outcome = Outcome.EXPIRED if event.get("expired") else Outcome.CANCELLED
        self.tasks.ended(event["uuid"], outcome, event["hostname"], event["timestamp"], now)

    def _cancelled(self, event: Event, now: float) -> None:
        """The worker stopped the task as it lost the broker; the message is delivered again."""
        self.tasks.ended(event["uuid"], Outcome.LOST, event["hostname"], event["timestamp"], now, again=True)

    # --- what is seen now

    def __call__(self) -> Snapshot:
        """Workers and what runs on them; merged into the snapshot of collect() while following."""
        now = self._clock()
        running: Counter[str] = Counter()
        longest: dict[tuple[str, str], float] = defaultdict(float)
        oldest: dict[str, float] = defaultdict(float)
        unseen = 0
        for worker in self.workers:
            if worker.up is False:
                continue
            unseen += worker.unseen
            for run in worker.runs:
                queue, seconds = run.queue or run.task.queue, max(now - run.since, 0.0)
                running[queue] += 1
                longest[queue, run.task.name] = max(longest[queue, run.task.name], seconds)
                oldest[queue] = max(oldest[queue], seconds)
        known = self._knows_running()
        queues = [
            QueueStats(name=q, tasks={State.RUNNING: n}, oldest_age={State.RUNNING: oldest[q]})
            for q, n in running.items()
            if q or not unseen
        ]
        if unseen:  # of any queue and of unknown age
            queues.append(QueueStats(name="", tasks={State.RUNNING: running[""] + unseen}))
        return Snapshot(
            queues=queues if known else [],
            longest_runs=[LongestRun(queue=q, task=t, seconds=s) for (q, t), s in longest.items()],
            workers=[worker.stats(now) for worker in self.workers],
            capabilities=self._capabilities(),
        )

    def _knows_running(self) -> bool:
        """False where workers are busy and none ever told with what."""
        return self._saw_task or not any(worker.up and worker.unseen for worker in self.workers)

    @property
    def without_task_events(self) -> list[str]:
        """Workers that worked and sent no task events."""
        return sorted(w.name for w in self.workers if w.silent_work)

    @property
    def without_task_sent(self) -> bool:
        """Whether workers told of tasks, and producers of none."""
        return self._saw_task and not self._expects_sent

    def _capabilities(self) -> list[Capability]:
        silent = bool(self.without_task_events) and not self._saw_task
        by_worker = Capability(family="taskq_tasks_finished_total", reason="option" if silent else "none")
        unsent = self._last_sent is None and self.without_task_sent
        return [
            Capability(family="taskq_worker_up"),
            *(
                Capability(family=family, state=State.RUNNING, reason="none" if self._knows_running() else "option")
                for family in ("taskq_tasks", "taskq_oldest_task_age_seconds")
            ),
            by_worker,
            *(
                Capability(family=family, reason="option" if unsent else "none")
                for family in ("taskq_tasks_enqueued_total", "taskq_task_wait_duration_seconds")
            ),
        ]


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < 1e11


def _is_name(value: object) -> TypeGuard[str]:
    return type(value) is str and len(value) <= NAME_LENGTH


def _duration(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e11 else None


def _retries(event: Event) -> int:
    retries = event.get("retries")
    return retries if type(retries) is int else 0
