"""From Celery's events to the ledger, whatever broker brings them. Pure: payloads and the time are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from taskq_exporter.api import Capability, DropReason, Finding, Ledger, Outcome, Snapshot, Source
from taskq_exporter_celery import view
from taskq_exporter_celery.events import (
    NAME_LENGTH,
    Event,
    UndecodableError,
    duration,
    exception_name,
    is_name,
    is_queue,
    parse_time,
    retries,
)
from taskq_exporter_celery.inspection import Inspected
from taskq_exporter_celery.schedulers import Schedulers
from taskq_exporter_celery.tasks import Tasks
from taskq_exporter_celery.workers import FIRST_BEAT, Workers

#: Seconds that the first events of a task are held back for its task-sent, which brings the queue: it comes from
#: another process, often some milliseconds after the worker's.
GRACE = 1.0
#: Most events to hold back.
HELD_BACK = 20_000
#: Seconds without a task-sent after which none is waited for.
SENT_EXPECTED = 60.0
#: Seconds between looks at all workers.
SWEEP_EVERY = 0.5
#: Queues that events told of, for collect() to look at.
QUEUES = 10_000

_TIMEOUTS = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded"})


class Follower:
    """What is known from events of one source. It outlives connections: calling it gives what it sees now."""

    def __init__(self, source: Source, ledger: Ledger, clock: Callable[[], float]) -> None:
        options = source.options
        self._ledger = ledger
        self._clock = clock
        self.workers = Workers(
            ledger,
            timeout=options.heartbeat_timeout,
            ttl=source.worker_ttl,
            inspect_interval=options.inspect_interval,
        )
        self.inspected = Inspected(switched_on=options.inspect)
        self.tasks = Tasks(ledger, self.workers)
        self.schedulers = Schedulers(options, ttl=source.queue_ttl, now=clock())
        if isinstance(ledger.cursor, dict):
            self.schedulers.restore(ledger.cursor.get("schedulers"))
        #: Queues that events named, and when last.
        self.queues: dict[str, float] = {}
        self._queue_ttl = source.queue_ttl
        self._held_back: dict[str, tuple[float, list[Event]]] = {}
        self._held_back_count = 0
        self._last_sent: float | None = None
        self._expects_sent = True
        self.saw_task = False  # any event of a task
        self._swept = 0.0
        self._listens_since: float | None = None
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
        if self._listens_since is None:
            self._listens_since = self._clock()
        self.tasks.backlog.clear()
        for worker in self.workers:  # without heartbeats nothing else would tell of an end that we missed
            for run in list(worker.runs) if worker.active is None else ():
                self.tasks.drop(run, ended=True)
        self.workers.resume(self._clock())
        self.schedulers.resume(self._clock())

    def feed(self, messages: Iterable[Any], decode: Callable[[Any], Sequence[Any]]) -> None:
        """Count the events of some messages."""
        now, take = self._clock(), self._take
        total = undecodable = 0
        for message in messages:
            try:
                for event in decode(message):
                    total += 1
                    try:
                        undecodable += not take(event, now)
                    except Exception:  # noqa: BLE001 - whoever can publish chooses what is in it
                        undecodable += 1
            except UndecodableError:
                total, undecodable = total + 1, undecodable + 1
        if total:
            self._ledger.events(total)
        if undecodable:
            self._ledger.dropped(DropReason.DECODE, undecodable)

    @property
    def hears_of_sending(self) -> bool:
        """Whether any producer sent a task-sent event."""
        return self._last_sent is not None

    def holds_back(self, uuid: str) -> bool:
        """Whether events of the task came and wait to be counted."""
        return uuid in self._held_back

    def saw_queue(self, queue: str, now: float) -> None:
        """An event or a worker named a queue."""
        self.queues.pop(queue, None)  # the latest last
        self.queues[queue] = now

    def now(self) -> float:
        """The time by our clock."""
        return self._clock()

    def sweep(self) -> None:
        """What is due by now: events held back for long enough, workers that fell silent, what is to be forgotten."""
        now = self._clock()
        while self._held_back:
            uuid, (since, _) = next(iter(self._held_back.items()))
            if 0 <= now - since < GRACE and self._held_back_count <= HELD_BACK:
                break
            self._expects_sent = self._last_sent is not None and now - self._last_sent < SENT_EXPECTED
            self._release(uuid, now)
        if 0 <= now - self._swept < SWEEP_EVERY:
            return
        self._swept = now
        for worker in self.workers.sweep(now):
            for run in list(worker.runs):
                self.tasks.drop(run, ended=False)
        self.tasks.sweep(now)
        if (kept := self.schedulers.sweep(now)) is not None:
            self._ledger.cursor = {"schedulers": kept} if kept["known"] else None
        while self.queues:
            queue, seen = next(iter(self.queues.items()))
            if now - seen <= self._queue_ttl and len(self.queues) <= QUEUES:
                break
            del self.queues[queue]

    # --- one event

    def _take(self, event: Any, now: float) -> bool:
        """Count one event; False, or an exception, where it has not the form of one."""
        if type(event) is not dict or not 0 < event["timestamp"] < 1e11:
            return False
        kind, host = event["type"], event["hostname"]
        if type(host) is not str or len(host) > NAME_LENGTH:  # not is_name(): a call costs more than all of this
            return False
        handler = self._handlers.get(kind)
        if handler is None:
            return self._sent(event, now) if kind == "task-sent" else self._worker_event(kind, event, now)
        uuid = event["uuid"]
        if type(uuid) is not str or len(uuid) > NAME_LENGTH:
            return False
        if kind == "task-received" and not is_name(event["name"]):
            return False
        if not self.saw_task:  # before that, 0 would be a guess: workers may send none
            self.saw_task = True
            self._ledger.counts("received", "started", "retried", "finished")
        if kind == "task-received" and not self._expects_sent:
            handler(event, now)
            if uuid in self._held_back:  # with the threads pool its start may come first
                self._release(uuid, now)
        elif uuid in self.tasks.live or not self._hold_back(uuid, event, now):
            handler(event, now)
        return True

    def _hold_back(self, uuid: str, event: Event, now: float) -> bool:
        """Keep the event of an unknown task until its task-sent or its task-received has come; for a moment only."""
        if self.tasks.knows(uuid):
            return False
        if uuid in self._held_back:
            self._held_back[uuid][1].append(event)
        else:
            self._held_back[uuid] = (now, [event])
        self._held_back_count += 1
        return True

    def _release(self, uuid: str, now: float) -> None:
        _, events = self._held_back.pop(uuid)
        self._held_back_count -= len(events)
        named = next((i for i, event in enumerate(events) if event["type"] == "task-received"), 0)
        events.insert(0, events.pop(named))  # it has the name; later ones are of other tries
        for event in events:
            try:
                self._handlers[event["type"]](event, now)
            except Exception:  # noqa: BLE001 - as in feed()
                self._ledger.dropped(DropReason.DECODE)

    def _worker_event(self, kind: object, event: Event, now: float) -> bool:
        if kind in ("worker-heartbeat", "worker-online"):
            online = kind == "worker-online"
            for run in self.workers.restarted(event, now) if online else ():
                self.tasks.drop(run, ended=False)
            for run in self.workers.heartbeat(event, now, online=online):
                self.tasks.drop(run, ended=True)
        elif kind == "worker-offline":
            self.workers.offline(event["hostname"], now)
        return type(kind) is str

    def _sent(self, event: Event, now: float) -> bool:
        uuid, name, queue = event.get("uuid"), event.get("name"), event.get("queue")
        if not is_name(uuid) or not is_name(name):
            return False
        queue = queue if type(queue) is str else ""
        if not is_queue(queue):
            return False
        if self._last_sent is None:
            self._ledger.counts("enqueued")
        self._last_sent = now
        self._expects_sent = True
        if queue:
            self.saw_queue(queue, now)
        self.schedulers.sent(name, event["hostname"], now)
        runnable = event["timestamp"]
        if event.get("eta"):
            runnable = max(runnable, parse_time(event["eta"]) or runnable)
        self.tasks.sent(uuid, name, queue, retries(event), runnable, now)
        if uuid in self._held_back:
            self._release(uuid, now)
        return True

    def _received(self, event: Event, now: float) -> None:
        eta = parse_time(event["eta"]) if event.get("eta") else None
        self.tasks.received(event["uuid"], event["name"], retries(event), event["hostname"], now, eta)

    def _started(self, event: Event, now: float) -> None:
        self.tasks.started(event["uuid"], event["hostname"], event["timestamp"], now)

    def _succeeded(self, event: Event, now: float) -> None:
        runtime = duration(event.get("runtime"))  # null where the worker process was lost after success
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
        now, workers, inspected = self._clock(), self.workers, self.inspected
        queues, longest_runs = view.queues(
            workers,
            inspected.readers(workers),
            now,
            running=bool(self._knows_running(now)),
            consumers=inspected.counts_consumers,
        )
        return Snapshot(
            queues=queues,
            longest_runs=longest_runs,
            workers=[worker.stats(now) for worker in workers],
            worker_states=view.worker_states(workers, inspected.strangers if inspected.reason == "none" else None),
            schedulers=self.schedulers.stats(),
            problems=inspected.problems,
            findings=self.findings(),
            samples=view.samples(workers),
            capabilities=[*self._capabilities(now), *inspected.capabilities(workers)],
        )

    def findings(self) -> list[Finding]:
        """What the application could tell and does not, and who does not answer."""
        return [
            *view.findings(self.workers, without_task_sent=self.saw_task and not self._expects_sent),
            *self.inspected.findings(self.workers),
            *self.schedulers.findings(),
        ]

    def _knows_running(self, now: float) -> bool | None:
        """False where workers are busy and none ever told with what; None until each had time to tell that it is."""
        heard = self.inspected.reason == "none" or now - (self._listens_since or now) >= FIRST_BEAT
        if not heard or any(w.up and w.active is None and not w.beatless for w in self.workers):
            return None
        return self.saw_task or not any(w.up and (w.unseen or w.running is None) for w in self.workers)

    def _capabilities(self, now: float) -> list[Capability]:
        """What events can tell, and what the application would have to send for the rest."""
        return view.capabilities(
            running=self._knows_running(now),
            tasks=self.saw_task or not any(worker.silent_work for worker in self.workers),
            sending=self._last_sent is not None or not self.saw_task or self._expects_sent,
        )
