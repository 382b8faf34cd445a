"""The contract between taskq-exporter and its adapters: the only core module that an adapter imports.

An adapter is a module with functions marked `@hookimpl`, registered under the entry-point group
`taskq_exporter.adapters`. `collect` is the one required hook; docs/adapters.md walks through a whole adapter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, Protocol

import pluggy
from pydantic import BaseModel, ConfigDict, model_validator

from taskq_exporter.config.durations import Period, Seconds
from taskq_exporter.config.secretfiles import take_files
from taskq_exporter.records import (
    AdapterError,
    BrokerStats,
    Capability,
    Detected,
    DropReason,
    Family,
    Finding,
    LongestRun,
    Outcome,
    Problem,
    QueueStats,
    Reason,
    Sample,
    ScheduleEntry,
    SchedulerStats,
    Snapshot,
    State,
    WorkerState,
    WorkerStats,
)
from taskq_exporter.telemetry.command_trace import sending

__all__ = [
    "AdapterError",
    "BrokerStats",
    "Capability",
    "Detected",
    "DropReason",
    "Family",
    "Finding",
    "Ledger",
    "LongestRun",
    "NameFilter",
    "Options",
    "Outcome",
    "Period",
    "Problem",
    "QueueStats",
    "Reason",
    "Sample",
    "ScheduleEntry",
    "SchedulerStats",
    "Seconds",
    "Snapshot",
    "Source",
    "State",
    "WorkerState",
    "WorkerStats",
    "hookimpl",
    "hookspec",
    "sending",
]

PROJECT = "taskq_exporter"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- what an adapter is given -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NameFilter:
    """Shell globs over names; `expected` names exist (at 0) from the first page on."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """True where `name` is expected, or is included and not excluded."""
        if name in self.expected:
            return True
        return any(fnmatchcase(name, g) for g in self.include) and not any(fnmatchcase(name, g) for g in self.exclude)


class Options(BaseModel):
    """Base of an adapter's own options, which stand beside the core's in the YAML of a source.

    One of type SecretStr may also be given as NAME_file, the path of a file that is read at each `get_secret_value()`,
    which raises AdapterError(auth) where it cannot be read: call it to connect, not in a validator.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: An option that names several, and the option that each becomes: {"aliases": "alias"} makes sources NAME/ALIAS.
    expands: ClassVar[Mapping[str, str]] = {}
    #: The schemes of the URLs that the adapter takes: another one is a mistake in the configuration. Empty: any.
    schemes: ClassVar[Sequence[str]] = ()
    #: False where there is nothing to connect to: a source has no URL then.
    needs_url: ClassVar[bool] = True
    #: Other defaults for core options of this adapter's sources: {"duty_cycle": 0.05}.
    core_defaults: ClassVar[Mapping[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any) -> Any:
        return take_files(cls, data) if isinstance(data, Mapping) else data


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One configured thing to watch."""

    name: str
    adapter: str
    #: Reads the URL, a `url_file` anew at each call. Raises AdapterError(auth) where the file cannot be read.
    #: It holds credentials: use it to connect, never print it.
    url: Callable[[], str] = field(repr=False)
    options: Any = None  # an instance of what the adapter's options() returned
    timeout: float = 5.0  # seconds that one collect may take
    queues: NameFilter = NameFilter()
    tasks: NameFilter = NameFilter()
    worker_ttl: float = 600.0  # seconds after which a worker that is gone is forgotten
    queue_ttl: float = 86400.0  # seconds after which a queue that is gone is forgotten
    disabled: Set[str] = frozenset()  # families that never reach the page: what only they need is not asked for
    wanted: Set[str] = frozenset()  # families that names of other exporters are made of: some are only told for these


class Ledger(Protocol):
    """What happened over time in one source, fed by its follower on the event loop.

    Counts go to the page and to the checkpoint together with `cursor`: change both without an `await` between them,
    and no restart loses or repeats a task. Names over the caps add up under `_other`.
    """

    #: Where the follower stands: anything that JSON can hold; None where counting starts now.
    cursor: Any
    #: Called for each page while following: what the follower sees now, merged into the snapshot of collect().
    view: Callable[[], Snapshot] | None
    #: Upper bounds in seconds, without +Inf, for ran_many and waited_many.
    run_bounds: tuple[float, ...]
    wait_bounds: tuple[float, ...]

    def following(self, lag: float | None = 0.0) -> None:
        """Say that events arrive or that the cursor moved, and how many seconds it is behind (None: not known)."""

    def counts(
        self, *what: Literal["enqueued", "received", "started", "retried", "finished", "succeeded", "failed"]
    ) -> None:
        """Say which counters this follower feeds: a (queue, task) seen first starts each of them at 0.

        "finished" is both outcomes, "succeeded" and "failed" one, where the other is not told.
        """

    def gap(self) -> None:
        """Say that what happened before now may be missing (a subscription that starts anew)."""

    def start_over(self, why: str) -> None:
        """Set cursor and counters aside, because the cursor does not fit the server; counting starts at 0, now."""

    def enqueued(self, queue: str, task: str, priority: str = "", n: int = 1) -> None:
        """Put into the ready queue."""

    def received(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        """Delivered to a worker."""

    def started(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        """Begun, once an attempt."""

    def finished(
        self, queue: str, task: str, outcome: Outcome, worker: str = "", n: int = 1, exception: str = ""
    ) -> None:
        """Ended for good, with an exception of this class name where one did it."""

    def retried(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        """A try that will be tried again."""

    def redelivered(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        """Given out again because a worker or lease was lost."""

    def exception(self, queue: str, task: str, exception: str, n: int = 1) -> None:
        """A try ended by an exception of this class name."""

    def ran(self, queue: str, task: str, outcome: Outcome, seconds: float, worker: str = "") -> None:
        """One attempt took `seconds`, start to end; negative ones (clock skew) count as 0."""

    def ran_many(
        self, queue: str, task: str, outcome: Outcome, counts: Sequence[int], total: float, worker: str = ""
    ) -> None:
        """Several attempts: a count for each bucket of run_bounds and one for +Inf (not cumulative), seconds in all."""

    def waited(self, queue: str, seconds: float, task: str = "", worker: str = "") -> None:
        """A task waited `seconds` from runnable to started, there."""

    def waited_many(self, queue: str, counts: Sequence[int], total: float, task: str = "") -> None:
        """Several waits, as ran_many."""

    def workers_started(self, n: int = 1) -> None:
        """Workers seen for the first time."""

    def workers_lost(self, n: int = 1) -> None:
        """Workers gone without a goodbye."""

    def worker_finished(self, worker: str, outcome: Outcome, n: int = 1) -> None:
        """What a worker says it has finished, as a difference."""

    def worker_busy(self, worker: str, seconds: float) -> None:
        """How long a worker was busy, as a difference."""

    def events(self, n: int = 1) -> None:
        """Events or rows that the follower read."""

    def dropped(self, reason: DropReason, n: int = 1) -> None:
        """Events that were not counted."""

    def commands(self, n: int = 1) -> None:
        """Commands or statements that the follower sent."""

    def count(self, family: str, labels: Sequence[str], n: float = 1) -> None:
        """Add to a counter of the adapter's own families(); labels in the order of the family."""

    def observe(self, family: str, labels: Sequence[str], value: float) -> None:
        """A value for a histogram of the adapter's own families(); negative ones count as 0."""


# --- the hooks --------------------------------------------------------------------------------------------------


class AdapterSpec:
    """The hooks. An implementation takes only the arguments that it needs."""

    @hookspec(firstresult=True)
    def collect(self, source: Source, client: Any) -> Snapshot | Awaitable[Snapshot]:
        """Read what is true now. `async def` is preferred; a plain `def` runs in a thread of its own."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def options(self) -> type[Options]:
        """The model of the adapter's own options; without this hook there are none."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def connect(self, source: Source) -> AbstractAsyncContextManager[Any]:
        """An async context manager whose value is `client`; entered for collect and for follow, anew after errors."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def follow(self, source: Source, client: Any, ledger: Ledger) -> Awaitable[None]:
        """Feed the ledger until cancelled: an event stream, or a cursor on a timer. Restarted when it ends."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def detect(self, env: Mapping[str, str]) -> Awaitable[Iterable[Detected]]:
        """Sources that the environment names; asked again later where there are none."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def diagnose(self, source: Source, client: Any) -> Awaitable[Iterable[Finding]]:
        """What `check` and the pages say of this source."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def grants(self, source: Source) -> str:
        """The exact Redis ACL line or SQL that the source's user needs; the user is called `taskq_exporter`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def families(self) -> Sequence[Family]:
        """The adapter's own families, for what no uniform family says."""
        raise NotImplementedError
