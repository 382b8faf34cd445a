"""One worker as events and its own answers tell of it. Pure: the time is given, in Unix seconds of our own clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from taskq_exporter.api import WorkerState, WorkerStats
from taskq_exporter_celery.balance import Balance

if TYPE_CHECKING:
    from taskq_exporter_celery.task import Run

#: Most tasks to remember that a worker holds and has not begun; over it they are not known.
HELD = 100_000


class Worker:
    """One node. Liveness goes by the arrival of events here, so that clocks which differ do no harm."""

    __slots__ = (
        "active",
        "bade_farewell",
        "balance",
        "beat",
        "beatless",
        "beats_at_work",
        "counted",
        "counted_at",
        "frequency",
        "held",
        "later",
        "listens",
        "live",
        "mute",
        "name",
        "pid",
        "pool",
        "prefetch",
        "processed",
        "queues",
        "runs",
        "said",
        "seen",
        "silent_since",
        "silent_work",
        "since",
        "slept_at_work",
        "slots",
        "software",
        "spoke",
        "started",
        "surplus",
        "task_events",
        "unanswered",
        "unseen",
        "up",
        "version",
        "whole",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.since = self.seen = now
        #: None where it never sent a heartbeat and never answered: then silence means nothing.
        self.up: bool | None = None
        self.bade_farewell = False
        self.beat: float | None = None  # arrival of the last heartbeat
        self.said = 0.0  # time of the last heartbeat by the worker's own clock
        self.frequency = 2.0
        self.beatless = False  # it sends none, though there was time for one
        self.active: int | None = None  # by its last heartbeat, or by its answer where none has come yet
        self.beats_at_work = False  # it beat while it ran a task
        self.slept_at_work = False  # it did not, though there was time: it is of the solo pool
        #: Tasks that its last heartbeat told of beyond those in `runs`; starts of some may be on the way.
        self.surplus: float = math.inf
        self.unseen = 0  # tasks that it runs of whose start no event told
        self.processed: int | None = None
        self.pid: object = None
        self.software = self.version = ""
        self.task_events = False
        self.spoke = False  # a task event came since the last heartbeat
        self.mute = 0  # heartbeats in a row, since tasks began, without an event that told of one
        self.counted: int | None = None  # `processed` when it was last looked at
        self.counted_at: float | None = None  # by the worker's own clock
        self.silent_work = False  # it works, and sends no task events
        self.runs: set[Run] = set()
        self.balance = Balance()
        self.live = False  # no connection was lost since its last heartbeat
        # what it was delivered and has not begun: now, or at its ETA
        self.whole = False  # nothing of it is unknown
        self.held: set[str] = set()
        self.later: dict[str, float] = {}
        # what it answers to remote control
        self.unanswered = 0  # rounds in a row
        self.listens: bool | None = None  # whether it is subscribed, as of the last round
        #: Since when it neither answers nor sends anything, where it listens or is presumed to be busy.
        self.silent_since: float | None = None
        self.pool = ""
        self.slots: int | None = None
        self.prefetch: int | None = None
        self.started: float | None = None
        self.queues: frozenset[str] | None = None

    # --- what it holds; called for each event of a task

    def received(self, uuid: str, eta: float | None) -> None:
        """A task was delivered to it, for now or for later."""
        if eta is not None:
            self.later[uuid] = eta
        else:
            self.held.add(uuid)
        if len(self.held) + len(self.later) > HELD:
            self.lose_track()

    def began(self, uuid: str, at: float) -> None:
        """It began a task."""
        self.gave_up(uuid)
        self.balance.start(at)

    def gave_up(self, uuid: str) -> None:
        """It holds the task no more."""
        self.held.discard(uuid)
        if self.later:
            self.later.pop(uuid, None)

    def lose_track(self, *, whole: bool = False) -> None:
        """What it holds is not known; with `whole`, it is nothing."""
        self.held.clear()
        self.later.clear()
        self.whole = whole

    def account_for_one(self) -> None:
        """Of the tasks that its last heartbeat told of, one more is known."""
        self.surplus -= 1
        self.unseen = int(min(self.unseen, self.surplus))

    # --- what is seen now

    def ended(self, run: Run, at: float) -> None:
        """A run of it ended, by its own clock then."""
        if at - run.started > 3 * self.frequency and self.said < run.started:
            self.slept_at_work = True

    @property
    def running(self) -> int | None:
        """Tasks that it runs; by its own word where it sends no task events. None until it has told."""
        if self.active is None and not (self.beatless and self.task_events):
            return self.unheard or None
        return len(self.runs) + self.unheard if self.task_events else max(self.active or 0, self.unheard)

    @property
    def unheard(self) -> int:
        """Tasks that it runs of whose start no event told."""
        return max(self.unseen, int(self.works_in_silence))

    @property
    def works_in_silence(self) -> bool:
        """Whether it is of the solo pool and runs a task, of which it tells, and acknowledges it, when that ends."""
        return self.silent_since is not None and self.presumed_busy and not self.runs

    @property
    def presumed_busy(self) -> bool:
        """Whether a task is why it is silent. The solo pool sends nothing and answers nothing until the task ends.

        Of which pool it is, it says itself; else, one that sent no heartbeat during a long task is solo.
        """
        solo = self.pool == "solo" if self.pool else self.slept_at_work and not self.beats_at_work
        return solo and self.listens is not False

    @property
    def state(self) -> WorkerState | None:
        """What it does; None where its silence means nothing, or it has not told."""
        if self.up is None:
            return None
        if self.silent_since is not None and not self.presumed_busy:
            return WorkerState.SILENT
        if not self.up:
            return WorkerState.OFFLINE
        running = self.running
        return None if running is None else WorkerState.BUSY if running else WorkerState.IDLE

    def stats(self, now: float) -> WorkerStats:
        """What the page says of it."""
        running = 0 if self.up is False else self.running
        tasks: dict[Literal["running", "reserved", "scheduled"], int] = {} if running is None else {"running": running}
        if self.up and self.whole and self.task_events and self.silent_since is None:
            tasks["scheduled"] = sum(eta > now for eta in self.later.values())
            tasks["reserved"] = len(self.held) + len(self.later) - tasks["scheduled"]
        longest = max((now - run.since for run in self.runs), default=0.0) if running else 0.0
        if running and not longest and self.silent_since is not None:
            longest = now - self.silent_since
        return WorkerStats(
            name=self.name,
            up=self.up,
            state=self.state,
            pool=self.pool,
            software=self.software,
            software_version=self.version,
            slots=self.slots,
            prefetch_limit=self.prefetch or None,  # 0 is no limit
            tasks=tasks,
            last_heartbeat=self.beat,
            started=self.started,
            longest_run=None if running is None else max(longest, 0.0),
        )
