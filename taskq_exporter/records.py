"""What an adapter returns: plain frozen records named after the domain; imported from taskq_exporter.api."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

__all__ = [
    "AdapterError",
    "BrokerStats",
    "Capability",
    "Detected",
    "DropReason",
    "Family",
    "Finding",
    "LongestRun",
    "Outcome",
    "Problem",
    "QueueStats",
    "Reason",
    "Sample",
    "ScheduleEntry",
    "SchedulerStats",
    "Snapshot",
    "State",
    "WorkerState",
    "WorkerStats",
]


class State(StrEnum):
    """Where a stored task is; each task is in exactly one state."""

    READY = "ready"  # could run now by the server's clock
    SCHEDULED = "scheduled"  # later, never tried
    RETRY = "retry"  # later, after a failed try
    RESERVED = "reserved"  # held by a worker, not started
    RUNNING = "running"
    BLOCKED = "blocked"  # waits for a dependency or a group
    FAILED = "failed"  # ended badly, kept
    DEAD = "dead"  # a pile of its own from which a person re-queues
    SUCCEEDED = "succeeded"  # kept
    CANCELLED = "cancelled"
    LOST = "lost"  # claimed, its worker gone


class Outcome(StrEnum):
    """How an attempt ended; all but RETRIED end the task for good."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DEAD = "dead"
    LOST = "lost"
    RETRIED = "retried"  # of an attempt (run histogram) only, never of a finished task


class WorkerState(StrEnum):
    """What a worker process does now."""

    IDLE = "idle"
    BUSY = "busy"
    PAUSED = "paused"
    DRAINING = "draining"
    SILENT = "silent"  # listens, does not answer
    OFFLINE = "offline"


class Reason(StrEnum):
    """Why something could not be read. Closed: error text never becomes a label."""

    CONNECT = "connect"
    AUTH = "auth"
    PERMISSION = "permission"
    TIMEOUT = "timeout"
    BUSY = "busy"  # locked, or out of connections
    SCHEMA = "schema"  # a missing table, column or key layout
    COST = "cost"  # refused by the plan guard
    PROTOCOL = "protocol"
    UNSUPPORTED = "unsupported"
    BUG = "bug"


class AdapterError(Exception):
    """An expected failure, with a closed reason and a message that says what to do. It must hold no credential."""

    def __init__(self, reason: Reason | str, message: str) -> None:
        """Raises ValueError where `reason` is none of Reason."""
        super().__init__(message)
        self.reason = Reason(reason)


class DropReason(StrEnum):
    """Why a follower could not count an event."""

    DECODE = "decode"
    OVERFLOW = "overflow"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """One queue now. Absent (None, or no entry) is "not known"; 0 is a known zero."""

    name: str
    tasks: Mapping[State, int] = field(default_factory=dict)
    by_priority: Mapping[tuple[State, str], int] = field(default_factory=dict)  # (state, level)
    capped: Mapping[State, bool] = field(default_factory=dict)  # True where the count stopped at a limit
    overdue: int | None = None  # the part of ready that the queue system should have moved by now
    oldest_age: Mapping[State, float] = field(default_factory=dict)  # seconds by the server's clock; 0 when empty
    oldest_is_bound: bool | None = None  # whether the oldest ready task may be older than that
    consumers: int | None = None  # workers reading it
    slots: int | None = None  # their slots together
    paused: bool | None = None
    bytes: int | None = None
    enqueued: Mapping[str, int] = field(
        default_factory=dict
    )  # total that the backend keeps, by priority level ("": none)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongestRun:
    """The longest running task of one name, in seconds."""

    queue: str
    task: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """One worker process. Times are Unix seconds."""

    name: str
    up: bool | None = None
    state: WorkerState | None = None
    pool: str = ""
    software: str = ""
    software_version: str = ""
    slots: int | None = None
    prefetch_limit: int | None = None
    tasks: Mapping[Literal["running", "reserved", "scheduled"], int] = field(default_factory=dict)
    last_heartbeat: float | None = None
    started: float | None = None
    longest_run: float | None = None  # seconds
    finished: Mapping[Outcome, int] = field(default_factory=dict)  # totals that the backend keeps
    busy_seconds: float | None = None  # total that the backend keeps
    restarts: int | None = None  # total that the backend keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """One entry of a schedule. Times are Unix seconds."""

    name: str
    last_run: float | None = None
    next_run: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStats:
    """What sends periodic tasks."""

    name: str
    up: bool | None = None
    last_beat: float | None = None  # Unix seconds
    entry_count: int | None = None
    entries: Sequence[ScheduleEntry] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStats:
    """The server itself."""

    roundtrip_seconds: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None  # None where no limit is set
    connections: Mapping[str, int] = field(default_factory=dict)  # by state, each in one
    connections_limit: int | None = None
    slow_statement_seconds: float | None = None  # mean of the slowest statement of late; 0: none was slow
    commands: Mapping[str, int] = field(default_factory=dict)  # totals that the server keeps, by kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Whether this source can tell a family (of one state) here. Snapshot counts outside the declared are a bug."""

    family: str  # e.g. "taskq_tasks"
    state: str = ""
    reason: Literal["none", "version", "permission", "option", "backend"] = "none"  # none: it can
    advice: str = ""  # what to change so that it can, where that is more than its reason says

    @property
    def able(self) -> bool:
        """True where it can."""
        return self.reason == "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A part that could not be read now, while others could."""

    reason: Reason
    part: str  # for the log and the pages, e.g. "workers"
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of `check` or of the page `/`: what was found, and what to change to get more."""

    level: Literal["ok", "note", "problem"]
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric family as data. An adapter's own ones are named `taskq_<adapter>_…`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()  # beside `source`
    overflow: Literal["sum", "max", "drop"] = "drop"  # what happens to samples over a label's cap
    buckets: tuple[float, ...] = ()  # of an adapter's own histogram: upper bounds, rising, without +Inf


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of one of the adapter's own families; `labels` in the order of `Family.labels`."""

    family: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one collect() saw: what is true now, and totals that the backend keeps."""

    server: str = ""  # e.g. "redis", "postgresql"
    server_version: str = ""
    queues: Sequence[QueueStats] = ()
    queues_complete: bool = True  # False where queues may be missing (a search that failed): those are not empty then
    longest_runs: Sequence[LongestRun] = ()
    workers: Sequence[WorkerStats] = ()
    worker_states: Mapping[WorkerState, int] = field(default_factory=dict)  # only where workers have no stable names
    schedulers: Sequence[SchedulerStats] = ()
    broker: BrokerStats | None = None
    capabilities: Sequence[Capability] = ()
    problems: Sequence[Problem] = ()
    commands: int = 0  # commands or statements that this collect sent
    query_seconds: Mapping[str, float] = field(default_factory=dict)  # where it sends several costly statements
    samples: Sequence[Sample] = ()  # of the adapter's own families()
    findings: Sequence[Finding] = ()  # what a person should do; on the page `/` only, those that are ok left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A source that detect() found in the environment."""

    name: str
    url: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
