"""The counters and histograms of one source by family and labels, with caps and expiry. Pure: no I/O, no asyncio."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from taskq_exporter.api import Family
from taskq_exporter.counts.cells import Counter, Histogram, Labels, finite
from taskq_exporter.schema import FAMILIES, OTHER, WITH_WORKER

__all__ = ["LabelSets"]


class LabelSets:
    """Where a ledger counts. What is over the cap of a family adds up under `_other`."""

    def __init__(self, own: Mapping[str, Family], clock: Callable[[], float], label_sets: int) -> None:
        """Start empty.

        Args:
            own: Families beside those of the schema.
            clock: Unix seconds.
            label_sets: How many each family may have.
        """
        self._families = {**FAMILIES, **own}
        self._clock = clock
        self._label_sets = label_sets
        self._now = clock()  # time of the last freeze: precise enough to expire by, and free
        self._newest = 0.0
        self._counters: dict[str, dict[Labels, Counter]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    @property
    def newest(self) -> float:
        """When the youngest series was born (Unix seconds)."""
        return self._newest

    def _stores(self) -> list[tuple[str, dict[Labels, Any]]]:
        """Every family that counts anything, with its cells."""
        return [*self._counters.items(), *self._histograms.items()]

    def _expire(self, oldest: float) -> set[Labels]:
        """Drop label sets not touched since; returns the first two labels of each."""
        dropped: set[Labels] = set()
        for cells in (cells for name, cells in self._stores() if self._families[name].labels):
            for labels in [labels for labels, cell in cells.items() if cell.touched < oldest]:
                del cells[labels]
                dropped.add(labels[:2])
        return dropped

    def _fits(self, name: str, cells: Sequence[tuple[Any, ...]]) -> bool:
        """Whether what a checkpoint held has today's shape; of the schema's families that is known."""
        if name in FAMILIES:
            return True
        family = self._families.get(name)
        if family is None or any(len(labels) != len(family.labels) for labels, *_ in cells):
            return False
        return family.kind == "counter" or all(len(counts) == len(family.buckets) + 1 for _, counts, *_ in cells)

    def _add(self, name: str, labels: Labels, n: float) -> Counter:
        cells = self._counters.setdefault(name, {})
        cell = cells.get(labels)
        if cell is None:
            labels = self._room(cells, labels, name)
            cell = cells.get(labels) or cells.setdefault(labels, Counter(0, self._birth(), self._now))
        if not 0 <= n < inf:
            raise ValueError(f"a counter cannot change by {n}")
        cell.value += n
        cell.touched = self._now
        return cell

    def _histogram(self, name: str, labels: Labels, bounds: tuple[float, ...]) -> Histogram:
        cells = self._histograms.setdefault(name, {})
        cell = cells.get(labels)
        if cell is None:
            labels = self._room(cells, labels, name)
            new = Histogram([0] * (len(bounds) + 1), 0.0, self._birth(), self._now)
            cell = cells.get(labels) or cells.setdefault(labels, new)
        cell.touched = self._now
        return cell

    def _observe(self, name: str, labels: Labels, bounds: tuple[float, ...], seconds: float) -> None:
        seconds = max(finite(seconds), 0.0)
        cell = self._histogram(name, labels, bounds)
        cell.counts[bisect_left(bounds, seconds)] += 1
        cell.total += seconds

    def _merge(self, name: str, labels: Labels, bounds: tuple[float, ...], counts: Sequence[int], total: float) -> None:
        if len(counts) != len(bounds) + 1 or min(counts) < 0:
            raise ValueError(f"{len(counts)} buckets of {len(bounds) + 1}, or a negative count")
        total = finite(total)
        cell = self._histogram(name, labels, bounds)
        for i, n in enumerate(counts):
            cell.counts[i] += n
        cell.total += max(total, 0.0)

    def _birth(self) -> float:
        """Now; later than every birth before, so that what a page showed and what came after it are told apart."""
        self._newest = max(self._clock(), self._newest + 1e-6)
        return self._newest

    def _room(self, cells: dict[Labels, Any], labels: Labels, name: str) -> Labels:
        """The labels themselves, or `_other` for each capped one where the family is full."""
        if len(cells) < self._label_sets:
            return labels
        kinds = self._families[name].labels + (("worker",) if name in WITH_WORKER else ())
        return tuple(
            OTHER if value and kind not in ("outcome", "reason") else value
            for kind, value in zip(kinds, labels, strict=True)
        )
