"""What a ledger is made of, and how it is shown and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from taskq_exporter.schema import OTHER

__all__ = ["Counter", "Histogram", "Labels", "LedgerView", "finite", "keep"]

Labels = tuple[str, ...]


@dataclass(slots=True)
class Counter:
    """A total; `born` is when it first appeared, `touched` when it last changed (Unix seconds)."""

    value: float
    born: float
    touched: float


@dataclass(slots=True)
class Histogram:
    """Counts for each bucket (not cumulative, the last is +Inf) and the sum of the values."""

    counts: list[int]
    total: float
    born: float
    touched: float


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A ledger at one moment: what a page shows and a checkpoint holds."""

    counters: dict[str, list[tuple[Labels, float, float]]] = field(default_factory=dict)  # labels, value, born
    histograms: dict[str, list[tuple[Labels, tuple[int, ...], float, float]]] = field(default_factory=dict)
    newest: float = 0.0  # when the youngest of these was born
    since: float | None = None
    cursor: str = "null"  # JSON: the follower may change its cursor in place after this moment


def keep(cells: dict[Labels, Any], names: Iterable[str], wants: Mapping[str, Callable[[str], bool]]) -> None:
    """Drop the label sets of a family with these label names that have a value which is not wanted."""
    checks = [(i, wants[name]) for i, name in enumerate(names) if name in wants]
    for labels in list(cells):
        if not all(labels[i] in ("", OTHER) or wanted(labels[i]) for i, wanted in checks):
            del cells[labels]


def finite(seconds: float) -> float:
    """The same. Raises ValueError where it is no duration."""
    if not -inf < seconds < inf:
        raise ValueError(f"not a duration: {seconds}")
    return seconds
