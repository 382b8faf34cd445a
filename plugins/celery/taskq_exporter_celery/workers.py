"""The workers that events tell of, and that answer. Pure: the time is given, in Unix seconds of our own clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taskq_exporter.api import DropReason, Ledger
from taskq_exporter_celery.balance import Balance
from taskq_exporter_celery.events import NUMBER, Event
from taskq_exporter_celery.worker import Worker

if TYPE_CHECKING:
    from taskq_exporter_celery.task import Run

#: Most workers to remember: hostile names must not fill the memory.
LIMIT = 10_000
#: Heartbeats in a row without a task event, after tasks had begun, with which a worker is found to send none.
MUTE = 2
#: Seconds in which the first heartbeat of a worker comes, where it sends any: by default each 2 seconds.
FIRST_BEAT = 5.0
#: Seconds between heartbeats whose counts are looked at: more than events of tasks are held back for.
SPACING = 1.75


class Workers:
    """All workers, by their full node name: two on one host are two."""

    def __init__(self, ledger: Ledger, *, timeout: float, ttl: float, inspect_interval: float = 30.0) -> None:
        self._ledger = ledger
        self._timeout = timeout
        self._between_answers = 2.5 * inspect_interval
        self._ttl = ttl
        self._workers: dict[str, Worker] = {}
        self._whole = False  # nobody held anything since we follow
        #: Since when no event was missed, by our clock.
        self.followed_since = math.inf

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def get(self, name: str) -> Worker | None:
        """The worker of that name, where it is known."""
        return self._workers.get(name)

    def at_work(self, name: str, now: float) -> Worker:
        """The worker that sent a task event now."""
        worker = self._get(name, now)
        worker.seen = now
        worker.task_events = worker.spoke = True
        worker.silent_since = None
        if worker.up is False and not worker.bade_farewell:
            worker.up = True
        return worker

    def restarted(self, event: Event, now: float) -> list[Run]:
        """Take the greeting of a worker; where another process had its name, that one is gone.

        Returns: The runs of that process. In containers both may have the same pid, but the count starts at 0.
        """
        worker = self._get(event["hostname"], now)
        worker.lose_track(whole=True)  # after a connection was lost too: the broker delivers anew
        worker.unanswered = 0
        another = _another(worker, event)
        if another or event.get("processed") == 0:
            _forget_process(worker)
            worker.balance.born()
        if not another:
            return []
        if worker.up:
            worker.up = False
            self._ledger.workers_lost()
        return list(worker.runs)

    def heartbeat(self, event: Event, now: float, *, online: bool = False) -> list[Run]:
        """Take a heartbeat or the greeting of a worker.

        Returns: The runs that ended without an event (`Ignore`, a lost connection), by the worker's own count. A run
        that began after the last heartbeat is left in peace: its end may be on the way.
        """
        worker = self._get(event["hostname"], now)
        if online and not worker.up:
            self._ledger.workers_started()
        if not online and _another(worker, event):  # its greeting was lost
            told = worker.balance
            _forget_process(worker)
            if not worker.live:  # and with it, perhaps, what it did first
                worker.balance = told
                worker.balance.born()
        worker.up, worker.bade_farewell, worker.silent_since = True, False, None
        worker.seen = worker.beat = now
        worker.software = _text(event.get("sw_ident"))
        worker.version = _text(event.get("sw_ver"))
        worker.pid = event.get("pid") if type(event.get("pid")) is int else None
        worker.frequency = _number(event.get("freq")) or worker.frequency
        active, processed = _number(event.get("active")), _number(event.get("processed"))
        ended: list[Run] = []
        if active is not None:
            worker.active = int(active)
            worker.beats_at_work = worker.beats_at_work or active > 0
            over = len(worker.runs) - worker.active
            if worker.silent_work:  # no event will tell the end of what it said to run
                ended = list(worker.runs)
            elif over > 0:
                before = sorted((r for r in worker.runs if r.started < worker.said), key=lambda run: run.started)
                ended = before[:over]
            surplus = max(-over, 0)
            worker.surplus, worker.unseen = surplus, int(min(surplus, worker.surplus))
        if processed is not None:
            self._processed(worker, int(processed), event["timestamp"])
        worker.said = event["timestamp"]
        return ended

    def _processed(self, worker: Worker, processed: int, at: float) -> None:
        """Take a worker's own count of what it began: does it send task events, and did they arrive?"""
        worker.processed = processed
        if worker.counted_at is not None and 0 <= at - worker.counted_at < SPACING:
            return
        rose = worker.counted is not None and processed > worker.counted
        worker.counted, worker.counted_at = processed, at
        if worker.spoke:
            worker.mute, worker.silent_work = 0, False
        elif worker.live and (rose or worker.mute):
            worker.mute += 1
            worker.silent_work = worker.mute >= MUTE
        if worker.silent_work:
            worker.balance.forget()
        if (lost := worker.balance.beat(at, processed)) and worker.task_events:
            self._ledger.dropped(DropReason.MISSED, lost)
            worker.lose_track()
        worker.spoke, worker.live = False, True

    def offline(self, name: str, now: float) -> None:
        """Take the farewell of a worker."""
        worker = self._get(name, now)
        worker.seen, worker.up, worker.bade_farewell, worker.active = now, False, True, None
        worker.silent_since, worker.listens = None, None
        worker.lose_track()

    def resume(self, now: float) -> None:
        """After a time without a connection: nobody was silent while we were deaf."""
        self._whole, self.followed_since = False, now
        for worker in self._workers.values():
            worker.seen, worker.surplus = now, math.inf
            worker.live, worker.silent_since, worker.listens = False, None, None
            worker.lose_track()
            worker.balance.resume()

    def nothing_held(self) -> None:
        """The broker says that nobody holds a message now: from here on it is known what each worker holds."""
        self._whole = True
        for worker in self._workers.values():
            worker.whole = True

    # --- remote control

    def unasked(self, tries: int) -> bool:
        """Whether there is a worker that has not said yet which queues it reads, and was asked less often than that."""
        return any(w.up and w.queues is None and w.unanswered < tries for w in self._workers.values())

    def answers(self, name: str, now: float) -> Worker | None:
        """The worker that answered now; None where it has left meanwhile."""
        worker = self._get(name, now)
        if worker.bade_farewell:
            return None
        worker.up, worker.silent_since, worker.listens = True, None, True
        worker.seen, worker.unanswered = now, 0
        return worker

    def nobody_knows(self) -> None:
        """A round failed: whether a worker listens is not known."""
        for worker in self._workers.values():
            worker.listens = None
            if not worker.presumed_busy:
                worker.silent_since = None

    def no_answer(self, worker: Worker, asked: float, *, listens: bool | None) -> None:
        """A worker was not heard of since it was asked; None: it may listen or not."""
        worker.unanswered += 1
        worker.listens = listens
        if not (listens or worker.presumed_busy):
            worker.silent_since = None
        elif worker.silent_since is None:
            worker.silent_since = worker.seen
        if listens and worker.presumed_busy:
            worker.seen = asked  # alive

    # --- the passage of time

    def sweep(self, now: float) -> list[Worker]:
        """Find those that fell silent; forget, and return, those that were for long."""
        forgotten = []
        for worker in list(self._workers.values()):
            worker.beatless = worker.beat is None and now - worker.since > FIRST_BEAT
            if worker.beatless:
                worker.active = None  # what it answered once is long ago
            silence = now - worker.seen
            patience = max(self._timeout, 3 * worker.frequency if worker.beat is not None else self._between_answers)
            gone = silence > patience or (worker.beat is None and worker.listens is False)
            if worker.up and gone:
                if not worker.presumed_busy:
                    worker.up, worker.active = False, None
                    self._ledger.workers_lost()
                elif worker.silent_since is None:
                    worker.silent_since = worker.seen
            if silence > self._ttl and not (worker.listens and worker.silent_since is not None):
                if worker.up:
                    self._ledger.workers_lost()
                forgotten.append(self._workers.pop(worker.name))
        return forgotten

    def _get(self, name: str, now: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = Worker(name, now)
            worker.whole = self._whole
            if len(self._workers) < LIMIT:  # over it, what the worker does is counted, and itself not shown
                self._workers[name] = worker
        return worker


def _another(worker: Worker, event: Event) -> bool:
    """Whether a process that we knew under the worker's name is another than the one that sent the event."""
    pid, processed = event.get("pid"), _number(event.get("processed"))
    if type(pid) is int and worker.pid is not None and pid != worker.pid:
        return True
    return processed is not None and worker.processed is not None and processed < worker.processed


def _forget_process(worker: Worker) -> None:
    """Another process has the worker's name: what the last one said of itself is over."""
    worker.processed, worker.counted, worker.counted_at = None, None, None
    worker.mute, worker.silent_work = 0, False
    worker.beats_at_work = worker.slept_at_work = False
    worker.pool, worker.slots, worker.prefetch, worker.started, worker.queues = "", None, None, None, None
    worker.balance = Balance()


def _number(value: object) -> float | None:
    return value if isinstance(value, NUMBER) and 0 <= value < 1e15 else None


def _text(value: object) -> str:
    return value[:128] if isinstance(value, str) else ""
