"""Snapshots and ledgers onto the schema's families. Pure: a violation drops that source's family and is reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from taskq_exporter.api import Family
from taskq_exporter.points import Labels, snapshot_points, source_points
from taskq_exporter.report import SourceReport, Violation
from taskq_exporter.schema import CAPPED_LABELS, FAMILIES, OTHER, WITH_WORKER

__all__ = ["SnapshotCollector"]


class SnapshotCollector:
    """A prometheus_client collector over the reports of one page; `violations` is filled by collect()."""

    def __init__(self, reports: Sequence[SourceReport]) -> None:
        self._reports = reports
        self._families = {**FAMILIES, **{n: f for r in reports for n, f in r.families.items()}}
        self._with_worker = any(report.with_worker for report in reports)
        self._annotations = sorted({key for report in reports for key in report.annotations})
        self.violations: list[Violation] = []

    def describe(self) -> Iterable[Metric]:
        """Every family without samples: its name, type and help."""
        return [self._metric(family) for family in self._families.values()]

    def collect(self) -> Iterator[Metric]:
        """Every family that has samples, in the order of the schema."""
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
        return (metric for metric in metrics.values() if metric.samples)

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
        for name, values in self._points(report).items():
            keys = self._label_names(self._families[name])
            samples[name] = [
                # zip drops the worker, which no snapshot tells
                Sample(name, dict(zip(keys, (report.name, *labels), strict=False)), value)
                for labels, value in values.items()
            ]
        for name, cells in report.ledger.counters.items():
            if name not in report.disabled:
                if name in samples:
                    self.violations.append(Violation(report.name, name, "told by collect() and by the follower"))
                keys = self._label_names(FAMILIES[name])
                samples[name] = [
                    Sample(
                        name,
                        dict(zip(keys, (report.name, *labels), strict=False)),
                        0 if born > report.hold_back else value,
                    )
                    for labels, value, born in cells
                ]
        for name in report.ledger.histograms:
            if name not in report.disabled:
                samples[name] = self._histogram_samples(report, name)
        return samples

    def _points(self, report: SourceReport) -> dict[str, dict[Labels, float]]:
        """What the source itself and its snapshot say, by family and labels."""
        points: dict[str, dict[Labels, float]] = {}
        raw: set[tuple[str, Labels]] = set()
        bad: dict[str, str] = {}
        for sample in report.snapshot.samples if report.snapshot is not None else ():
            if sample.family not in report.families:  # a family of the schema has its own record
                bad[sample.family] = "not one of the adapter's families()"
        # the source's own last: they count what the others overflowed
        for name, labels, value in chain(snapshot_points(report.snapshot), source_points(report, self._annotations)):
            if name in bad or name in report.disabled:
                continue
            family = self._families.get(name)
            error = _check(family, labels, value) or ("duplicate series" if (name, labels) in raw else "")
            if error or family is None:
                bad[name] = f"{error}: {labels!r} {value!r}"
                continue
            raw.add((name, labels))
            _put(points.setdefault(name, {}), family, _admit(report, family, labels), value)
        for name, message in bad.items():
            self.violations.append(Violation(report.name, name, message))
            points.pop(name, None)
        return points

    def _histogram_samples(self, report: SourceReport, name: str) -> list[Sample]:
        keys = self._label_names(FAMILIES[name])
        les = [*map(floatToGoString, report.run_bounds if "_run_" in name else report.wait_bounds), "+Inf"]
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


def _check(family: Family | None, labels: Labels, value: Any) -> str:
    """What is wrong with a sample, or nothing."""
    if family is None:
        return "not a family of the schema or of families()"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "value is not a number"
    if not math.isfinite(value) or value < 0:
        return "value is negative or not finite"
    if not all(isinstance(label, str) for label in labels):
        return "label value is not a string"
    if family.name != "taskq_source_annotations_info" and len(labels) != len(family.labels):
        return f"labels are not {family.labels!r}"
    return ""


def _admit(report: SourceReport, family: Family, labels: Labels) -> Labels:
    """The labels within their caps. A queue that is only remembered is not seen, so that it can be forgotten."""
    admit, remembered = report.names.admit, report.remembered
    return (
        tuple(
            label if kind == "queue" and label in remembered else admit(kind, label)
            for kind, label in zip(family.labels, labels, strict=True)
        )
        if family.labels
        else labels
    )


def _put(values: dict[Labels, float], family: Family, labels: Labels, value: float) -> None:
    """Add a sample; those over a cap meet under `_other` as the family says.

    Totals that the backend keeps are left out: their sum would go back when one of them goes.
    """
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
