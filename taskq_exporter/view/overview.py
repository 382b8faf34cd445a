"""What people and scripts are shown of the sources, and in which order. Absent or None is "not known". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taskq_exporter.api import BrokerStats, Finding, Problem

__all__ = [
    "STUCK_TEXT",
    "CapabilityOverview",
    "QueueOverview",
    "SchedulerOverview",
    "SourceOverview",
    "Stuck",
    "WorkerOverview",
    "by_urgency",
    "urgency",
]

#: Why a queue does not move as it should, the worst first: work that nobody reads; the oldest task waits longer than
#: the objective; work in a queue that somebody paused.
Stuck = Literal["no_consumers", "late", "paused", ""]
#: The same for people.
STUCK_TEXT: Mapping[Stuck, str] = {"no_consumers": "no consumers", "late": "late", "paused": "paused", "": ""}
_WORST_FIRST: dict[Stuck, int] = {"no_consumers": 0, "late": 1, "paused": 2, "": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """One queue. Ages and durations are in seconds."""

    name: str
    tasks: Mapping[str, int] = field(default_factory=dict)  # by state
    capped: tuple[str, ...] = ()  # states whose count stopped at a limit: there are at least so many
    backlog: int | None = None  # ready, reserved and running together, where all are known that the source can tell
    oldest_ready: float | None = None  # since it could have run
    oldest_is_bound: bool | None = None  # whether it may be older than that
    longest_run: float | None = None  # of those that run now
    consumers: int | None = None
    slots: int | None = None
    paused: bool | None = None
    finished_per_second: float | None = None  # over the last minutes, however they ended
    failed_per_second: float | None = None
    start_within: float | None = None  # the objective, where the configuration has one
    stuck: Stuck = ""
    history: tuple[float | None, ...] = ()  # ready tasks of the last minutes, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOverview:
    """One worker process. Times are Unix seconds."""

    name: str
    up: bool | None = None
    state: str | None = None
    running: int | None = None
    reserved: int | None = None
    slots: int | None = None
    longest_run: float | None = None  # seconds
    last_heartbeat: float | None = None
    started: float | None = None
    pool: str = ""
    software: str = ""
    software_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOverview:
    """What sends periodic tasks. Times are Unix seconds."""

    name: str
    up: bool | None = None
    last_beat: float | None = None
    entries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityOverview:
    """Whether a source can tell a family (of one state), and why not."""

    family: str
    state: str
    can: bool
    reason: str  # none, version, permission, option, backend
    advice: str = ""  # what to change so that it can


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOverview:
    """One source as it was when it was last looked at."""

    name: str
    adapter: str
    #: partial: up, and a part cannot be read or the follower does not follow. starting: no collect has ended yet.
    state: Literal["up", "partial", "down", "starting"]
    reason: str | None = None  # of the closed list (connect, auth, …), where it is down or a part cannot be read
    message: str = ""  # what goes with it
    last_error: str | None = None  # reason of the last error of any kind since the start
    last_error_at: float | None = None  # Unix seconds
    server: str = ""
    server_version: str = ""
    collect_seconds: float | None = None  # of the last collect, well or badly ended
    snapshot_age: float | None = None  # seconds
    last_success: float | None = None  # Unix seconds
    following: bool | None = None  # None: there is no follower
    follower_lag: float | None = None  # seconds
    annotations: Mapping[str, str] = field(default_factory=dict)
    queues: tuple[QueueOverview, ...] = ()  # what is stuck first
    queues_total: int | None = None  # also those beyond the cap, which are left out of `queues`
    workers: tuple[WorkerOverview, ...] = ()  # what is down first
    workers_total: int | None = None
    worker_states: Mapping[str, int] = field(default_factory=dict)
    schedulers: tuple[SchedulerOverview, ...] = ()
    broker: BrokerStats | None = None
    operations_per_second: float | None = None  # of the whole server: commands, of a database transactions
    problems: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = ()
    capabilities: tuple[CapabilityOverview, ...] = ()


def urgency(queue: QueueOverview) -> tuple[Any, ...]:
    """Sorts queues by what is stuck: first why, then how late by the objective, how old, how long it runs, how many."""
    late = queue.oldest_ready / queue.start_within if queue.oldest_ready and queue.start_within else 0.0
    return (
        _WORST_FIRST[queue.stuck],
        -late if queue.stuck == "late" else 0.0,
        -round(queue.oldest_ready or 0.0),  # of those that came together, the longer queue
        -(queue.longest_run or 0.0),
        -queue.tasks.get("ready", 0),
        queue.name,
    )


def by_urgency(sources: Iterable[SourceOverview]) -> list[tuple[SourceOverview, QueueOverview]]:
    """The queues of all sources, what is stuck first."""
    queues = [(source, queue) for source in sources for queue in source.queues]
    return sorted(queues, key=lambda pair: (urgency(pair[1]), pair[0].name))
