"""What a page shows under the names of other exporters, from what it shows under ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from taskq_exporter.compat.mapping import MappedFamily
from taskq_exporter.counts.cells import LedgerView

__all__ = ["Told", "counted", "told"]

#: Name, labels and value of a sample.
Told = tuple[str, dict[str, str], float]


def told(
    family: MappedFamily, source: str, ours: Mapping[str, Iterable[tuple[Mapping[str, str], float]]]
) -> list[Told]:
    """What a snapshot says of a family: `ours` are its samples by family.

    Totals that the backend keeps are never added up, since the sum would go back when one of them goes: where several
    are one of theirs there is none.
    """
    values: dict[tuple[str, ...], float] = {}
    twice: set[tuple[str, ...]] = set()
    for rule in family.rules:
        for labels, value in ours.get(rule.family, ()):
            theirs = rule.read(labels)
            if theirs is None:
                continue
            if theirs not in values:
                values[theirs] = value
            elif family.family.kind == "counter":
                twice.add(theirs)
            else:
                values[theirs] = max(values[theirs], value) if family.merge == "max" else values[theirs] + value
    return [
        (family.name, _labels(family, source, theirs), value) for theirs, value in values.items() if theirs not in twice
    ]


def counted(
    family: MappedFamily, source: str, ledger: LedgerView, hold_back: float, les: Sequence[str]
) -> Iterator[Told]:
    """What the ledger counted of a family; a series that was born after `hold_back` (Unix seconds) stands at 0.

    Args:
        family: One that the ledger counts for itself.
        source: Its label.
        ledger: Of the source.
        hold_back: See above.
        les: The bounds of the histogram as they are written, +Inf too.
    """
    for theirs, value, born in ledger.counters.get(family.name, ()):
        yield family.name, _labels(family, source, theirs), 0 if born > hold_back else value
    for theirs, counts, total, born in ledger.histograms.get(family.name, ()):
        labels = _labels(family, source, theirs)
        cumulated = 0
        for le, n in zip(les, counts, strict=True):
            cumulated += 0 if born > hold_back else n
            yield f"{family.name}_bucket", {**labels, "le": le}, cumulated
        yield f"{family.name}_count", labels, cumulated
        yield f"{family.name}_sum", labels, 0.0 if born > hold_back else total


def _labels(family: MappedFamily, source: str, values: Sequence[str]) -> dict[str, str]:
    return {"source": source, **dict(zip(family.family.labels, values, strict=True))}
