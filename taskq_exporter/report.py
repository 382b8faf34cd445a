"""All that a page says of one source, before it is mapped onto the schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskq_exporter.api import Family, Reason, Snapshot
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.counts.scrapers import EVERYTHING
from taskq_exporter.schema import RUN_BOUNDS, WAIT_BOUNDS

if TYPE_CHECKING:
    from taskq_exporter.compat.mapping import MappedFamily

__all__ = ["Objective", "SourceReport", "Violation"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A source's configured objective for one queue."""

    queue: str
    wait_seconds: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """All that a page says of one source."""

    name: str
    adapter: str
    names: Names
    up: bool
    snapshot: Snapshot | None = None  # None: nothing could be read
    ledger: LedgerView = field(default_factory=LedgerView)
    hold_back: float = EVERYTHING  # ledger series born after this (Unix seconds) stand at 0
    run_bounds: Sequence[float] = RUN_BOUNDS
    wait_bounds: Sequence[float] = WAIT_BOUNDS
    errors: Mapping[Reason, int] = field(default_factory=dict)
    commands: int = 0
    collect_seconds: float | None = None
    snapshot_age: float | None = None
    last_success: float | None = None
    follower_up: bool | None = None  # None: the adapter has no follower
    follower_lag: float | None = None
    follower_restarts: int = 0
    problem_count: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    objectives: Sequence[Objective] = ()
    disabled: Collection[str] = ()
    with_worker: bool = False
    remembered: Collection[str] = ()  # queues on the page that nobody reports any more
    families: Mapping[str, Family] = field(default_factory=dict)  # the adapter's own
    mapped: Sequence[MappedFamily] = ()  # under other names


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a family of a source is not on the page: a bug of the adapter."""

    source: str
    family: str
    message: str
