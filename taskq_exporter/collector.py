"""Snapshots and ledgers onto the schema's families. Pure: a violation drops that source's family and is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import getitem
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from taskq_exporter.api import Family
from taskq_exporter.points import Labels, snapshot_points, source_points
from taskq_exporter.report import SourceReport, Violation
from taskq_exporter.schema import CAPPED_LABELS, FAMILIES, OTHER, WITH_WORKER
from taskq_exporter.selection import EVERY_FAMILY, Selection

__all__ = ["SnapshotCollector"]

_PLAIN = (int, float)  # what nearly all values are: the rest takes longer to check


class SnapshotCollector:
    """A prometheus_client collector over the reports of one page; `violations` is filled by collect()."""

    def __init__(self, reports: Sequence[SourceReport], selection: Selection = EVERY_FAMILY) -> None:
        self._reports = reports
        self._selection = selection
        self._families = {**FAMILIES, **{n: f for r in reports for n, f in r.families.items()}}
        mapped = {family.name: family.family for r in reports for family in r.mapped}
        # what is asked for under another name is made of the rest
        self._not_asked = set() if any(map(selection.names, mapped)) else selection.leaves_out(self._families)
        self._families |= mapped
        self._labels = {label for family in self._families.values() for label in family.labels}
        self._with_worker = any(report.with_worker for report in reports)
        self._annotations = sorted({key for report in reports for key in report.annotations})
        self.violations: list[Violation] = []

    def collect(self) -> Iterator[Metric]:
        """Every family that is asked for and has samples, in the order of the schema."""
        metrics = {name: self._metric(family) for name, family in self._families.items()}
        for report in self._reports:
            try:
                samples = self._source_samples(report)
            except Exception as error:  # noqa: BLE001 - one adapter's records must not cost the others their page
                self.violations.append(Violation(report.name, "all", f"{type(error).__name__}: {error}"))
                samples = self._source_samples(replace(report, snapshot=None, up=False))
            if "taskq_source_series" not in report.disabled:
                count = Sample("taskq_source_series", {"source": report.name}, sum(map(len, samples.values())))
                samples["taskq_source_series"] = [count]
            for name, of_family in samples.items():
                metrics[name].samples += of_family
        shows = self._selection.shows
        return (metric for name, metric in metrics.items() if metric.samples and shows(name))

    def _metric(self, family: Family) -> Metric:
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        return Metric(name, family.help, family.kind)

    def _label_names(self, family: Family) -> Labels:
        if family.name == "taskq_source_annotations_info":
            return ("source", *(f"label_{key}" for key in self._annotations))
        worker = ("worker",) if self._with_worker and family.name in WITH_WORKER else ()
        return ("source", *family.labels, *worker)

    def _source_samples(self, report: SourceReport) -> dict[str, list[Sample]]:
        """The samples of one source by family; what is wrong is left out, and noted as a violation."""
        samples: dict[str, list[Sample]] = {}
        left_out = {*report.disabled, *self._not_asked}
        for name, values in self._points(report).items():
            keys = self._label_names(self._families[name])
            samples[name] = [
                # zip drops the worker, which no snapshot tells
                Sample(name, dict(zip(keys, (report.name, *labels), strict=False)), value)
                for labels, value in values.items()
            ]
        theirs = self._mapped_samples(report, samples)
        for name, cells in report.ledger.counters.items():
            if name not in left_out and (name in FAMILIES or name in report.families):
                if name in samples:
                    self.violations.append(Violation(report.name, name, "told by collect() and by the follower"))
                keys = self._label_names(self._families[name])
                samples[name] = [
                    Sample(
                        name,
                        dict(zip(keys, (report.name, *labels), strict=False)),
                        0 if born > report.hold_back else value,
                    )
                    for labels, value, born in cells
                ]
        for name in report.ledger.histograms:
            if name not in left_out and (name in FAMILIES or name in report.families):
                samples[name] = self._histogram_samples(report, name)
        return samples | theirs

    def _mapped_samples(self, report: SourceReport, samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[Sample]]:
        """The same under other names; `samples` are those of the snapshot."""
        if not report.mapped:
            return {}
        from taskq_exporter.compat.page import counted, told

        ours = {name: [(sample.labels, sample.value) for sample in of_one] for name, of_one in samples.items()}
        found = {}
        for family in report.mapped:
            if family.name in report.disabled:
                continue
            les = [*map(floatToGoString, family.buckets), "+Inf"]
            theirs = told(family, report.name, ours)
            theirs += counted(family, report.name, report.ledger, report.hold_back, les)
            found[family.name] = [Sample(*sample) for sample in theirs]
        return found

    def _points(self, report: SourceReport) -> dict[str, dict[Labels, float]]:
        """What the source itself and its snapshot say, by family and labels."""
        families: dict[str, _Rows] = {}
        admitted = {label: _Admitted(partial(report.names.admit, label)) for label in self._labels}
        # a queue that is only remembered is not seen, so that it can be forgotten
        admitted["queue"].update((name, name) for name in report.remembered)
        bad: dict[str, str] = {}
        for sample in report.snapshot.samples if report.snapshot is not None else ():
            if sample.family not in report.families:  # a family of the schema has its own record
                bad[sample.family] = "not one of the adapter's families()"
        left_out = {*bad, *report.disabled, *self._not_asked}
        # the source's own last: they count what the others overflowed
        for name, labels, value in chain(snapshot_points(report.snapshot), source_points(report, self._annotations)):
            if name in left_out:
                continue
            rows = families.get(name)
            if rows is None:
                rows = families[name] = _Rows(self._families[name], admitted)
            error = _check(rows.family, labels, value) or ("duplicate series" if labels in rows.raw else "")
            if error:
                bad[name] = f"{error}: {labels!r} {value!r}"
                left_out.add(name)
                continue
            rows.put(labels, value)
        for name, message in bad.items():
            self.violations.append(Violation(report.name, name, message))
            families.pop(name, None)
        return {name: rows.values for name, rows in families.items()}

    def _histogram_samples(self, report: SourceReport, name: str) -> list[Sample]:
        family = self._families[name]
        keys = self._label_names(family)
        bounds = family.buckets or (report.run_bounds if "_run_" in name else report.wait_bounds)
        les = [*map(floatToGoString, bounds), "+Inf"]
        samples = []
        for labels, counts, total, born in report.ledger.histograms[name]:
            base = dict(zip(keys, (report.name, *labels), strict=False))
            held = born > report.hold_back
            cumulated = 0
            for le, n in zip(les, counts, strict=True):
                cumulated += 0 if held else n
                samples.append(Sample(f"{name}_bucket", {**base, "le": le}, cumulated))
            samples.append(Sample(f"{name}_count", base, cumulated))
            samples.append(Sample(f"{name}_sum", base, 0.0 if held else total))
        return samples


class _Rows:
    """The points of one family of one source, within the caps of its labels."""

    __slots__ = ("_admitted", "family", "raw", "values")

    def __init__(self, family: Family, admitted: Mapping[str, _Admitted]) -> None:
        self.family = family
        self.raw: set[Labels] = set()  # as the source told them
        self.values: dict[Labels, float] = {}
        self._admitted = [admitted[kind] for kind in family.labels]

    def put(self, labels: Labels, value: float) -> None:
        """Add a point; those over a cap meet under `_other` as the family says.

        Totals that the backend keeps are left out then: their sum would go back when one of them goes.
        """
        self.raw.add(labels)
        family, values = self.family, self.values
        if self._admitted:
            labels = tuple(map(getitem, self._admitted, labels))
            over = OTHER in labels and any(
                label == OTHER and kind in CAPPED_LABELS for kind, label in zip(family.labels, labels, strict=True)
            )
            if over and (family.overflow == "drop" or family.kind == "counter"):
                return
        if labels not in values:
            values[labels] = value
        elif family.overflow == "max":
            values[labels] = max(values[labels], value)
        elif family.overflow == "sum":
            values[labels] += value


class _Admitted(dict[str, str]):
    """The values of one label as they may stand on a page; each is asked for once a page."""

    def __init__(self, admit: Callable[[str], str]) -> None:
        self._admit = admit

    def __missing__(self, value: str) -> str:
        admitted = self[value] = self._admit(value)
        return admitted


def _check(family: Family, labels: tuple[Any, ...], value: Any) -> str:
    """What is wrong with a point, or ""."""
    if type(value) not in _PLAIN and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "value is not a number"
    if not 0 <= value <= sys.float_info.max:
        return "value is negative or not finite"
    for label in labels:
        if not isinstance(label, str):
            return "label value is not a string"
    if len(labels) != len(family.labels) and family.name != "taskq_source_annotations_info":
        return f"labels are not {family.labels!r}"
    return ""
