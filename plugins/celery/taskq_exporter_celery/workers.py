"""The workers that events tell of. Pure: the time is given, in Unix seconds of our own clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taskq_exporter.api import Ledger, WorkerState, WorkerStats
from taskq_exporter_celery.events import Event

if TYPE_CHECKING:
    from taskq_exporter_celery.tasks import Run

#: Most workers to remember: hostile names must not fill the memory.
LIMIT = 10_000


class Worker:
    """One node. Liveness goes by the arrival of events here, so that clocks which differ do no harm."""

    __slots__ = (
        "active",
        "bade_farewell",
        "beat",
        "frequency",
        "name",
        "pid",
        "processed",
        "runs",
        "said",
        "seen",
        "silent_work",
        "software",
        "surplus",
        "task_events",
        "unseen",
        "up",
        "version",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.seen = now
        #: None where it never sent a heartbeat: then silence means nothing.
        self.up: bool | None = None
        self.bade_farewell = False
        self.beat: float | None = None  # arrival of the last heartbeat
        self.said = 0.0  # time of the last heartbeat by the worker's own clock
        self.frequency = 2.0
        self.active: int | None = None
        #: Tasks that its last heartbeat told of beyond those in `runs`; starts of some may be on the way.
        self.surplus: float = math.inf
        self.unseen = 0  # tasks that it runs of whose start no event told
        self.processed: int | None = None
        self.pid: object = None
        self.software = self.version = ""
        self.task_events = False
        self.silent_work = False  # it worked, and sent no task events
        self.runs: set[Run] = set()

    @property
    def running(self) -> int:
        """Tasks that it runs: by its own word, which also knows of tasks that send no events."""
        return len(self.runs) if self.active is None else self.active

    def stats(self, now: float) -> WorkerStats:
        """What the page says of it."""
        running = 0 if self.up is False else self.running
        state = None
        if self.up is not None:
            state = WorkerState.OFFLINE if not self.up else WorkerState.BUSY if running else WorkerState.IDLE
        longest = max((now - run.since for run in self.runs), default=0.0) if self.up is not False else 0.0
        return WorkerStats(
            name=self.name,
            up=self.up,
            state=state,
            software=self.software,
            software_version=self.version,
            tasks={"running": running},
            last_heartbeat=self.beat,
            longest_run=max(longest, 0.0),
        )


class Workers:
    """All workers, by their full node name: two on one host are two."""

    def __init__(self, ledger: Ledger, *, timeout: float, ttl: float) -> None:
        self._ledger = ledger
        self._timeout = timeout
        self._ttl = ttl
        self._workers: dict[str, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def at_work(self, name: str, now: float) -> Worker:
        """The worker that sent a task event now."""
        worker = self._get(name, now)
        worker.seen = now
        worker.task_events = True
        if worker.up is False and not worker.bade_farewell:
            worker.up = True
        return worker

    def restarted(self, event: Event, now: float) -> list[Run]:
        """Take the greeting of a worker; where another process had its name, that one is gone.

        Returns: The runs of that process. In containers both may have the same pid, but the count starts at 0.
        """
        worker = self._get(event["hostname"], now)
        pid, processed = event.get("pid"), _number(event.get("processed"))
        other = type(pid) is int and worker.pid is not None and pid != worker.pid
        anew = processed is not None and worker.processed is not None and processed < worker.processed
        if not (other or anew):
            return []
        if worker.up:
            worker.up = False
            self._ledger.workers_lost()
        worker.processed = None
        return list(worker.runs)

    def heartbeat(self, event: Event, now: float, *, online: bool = False) -> list[Run]:
        """Take a heartbeat or the greeting of a worker.

        Returns: The runs that ended without an event (`Ignore`, a lost connection), by the worker's own count. A run
        that began after the last heartbeat is left in peace: its end may be on the way.
        """
        worker = self._get(event["hostname"], now)
        if online and not worker.up:
            self._ledger.workers_started()
        worker.up, worker.bade_farewell = True, False
        worker.seen = worker.beat = now
        worker.software = _text(event.get("sw_ident"))
        worker.version = _text(event.get("sw_ver"))
        worker.pid = event.get("pid") if type(event.get("pid")) is int else None
        worker.frequency = _number(event.get("freq")) or worker.frequency
        active, processed = _number(event.get("active")), _number(event.get("processed"))
        ended: list[Run] = []
        if active is not None:
            worker.active = int(active)
            over = len(worker.runs) - worker.active
            if over > 0:
                before = sorted((r for r in worker.runs if r.started < worker.said), key=lambda run: run.started)
                ended = before[:over]
            surplus = max(-over, 0)
            worker.surplus, worker.unseen = surplus, int(min(surplus, worker.surplus))
        if processed is not None:
            if worker.processed is not None and processed > worker.processed and not worker.task_events:
                worker.silent_work = True
            worker.processed = int(processed)
        worker.silent_work = worker.silent_work and not worker.task_events
        worker.said = event["timestamp"]
        return ended

    def offline(self, name: str, now: float) -> None:
        """Take the farewell of a worker."""
        worker = self._get(name, now)
        worker.seen, worker.up, worker.bade_farewell, worker.active = now, False, True, None

    def resume(self, now: float) -> None:
        """After a time without a connection: nobody was silent while we were deaf."""
        for worker in self._workers.values():
            worker.seen, worker.surplus = now, math.inf

    def sweep(self, now: float) -> list[Worker]:
        """Find those that fell silent; forget, and return, those that were for long."""
        forgotten = []
        for worker in list(self._workers.values()):
            silence = now - worker.seen
            if worker.up and silence > max(self._timeout, 3 * worker.frequency):
                worker.up, worker.active = False, None
                self._ledger.workers_lost()
            if silence > self._ttl:
                forgotten.append(self._workers.pop(worker.name))
        return forgotten

    def _get(self, name: str, now: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = Worker(name, now)
            if len(self._workers) < LIMIT:  # over it, what the worker does is counted, and itself not shown
                self._workers[name] = worker
        return worker


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and 0 <= value < 1e15 else None


def _text(value: object) -> str:
    return value[:128] if isinstance(value, str) else ""
