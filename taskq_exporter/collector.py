"""Snapshots and ledgers onto the schema's families. Pure: a violation drops that source's family and is reported."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from taskq_exporter.api import Family, QueueStats, Reason, Snapshot, State, WorkerState, WorkerStats
from taskq_exporter.ledger import LedgerView
from taskq_exporter.names import Names
from taskq_exporter.schema import CAPPED_LABELS, FAMILIES, OTHER, RUN_BOUNDS, WAIT_BOUNDS, WITH_WORKER
from taskq_exporter.scrapers import EVERYTHING

__all__ = ["Objective", "SnapshotCollector", "SourceReport", "Violation"]

Labels = tuple[str, ...]
Point = tuple[str, Labels, float]  # family, labels beside source, value


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
    families: Mapping[str, Family] = field(default_factory=dict)  # the adapter's own


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a family of a source is not on the page: a bug of the adapter."""

    source: str
    family: str
    message: str


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
            before = {name: len(metric.samples) for name, metric in metrics.items()}
            self._add_source(report, metrics)
            series = sum(len(metric.samples) - before[name] for name, metric in metrics.items())
            if "taskq_source_series" not in report.disabled:
                metrics["taskq_source_series"].add_sample("taskq_source_series", {"source": report.name}, series)
        return (metric for metric in metrics.values() if metric.samples)

    def _metric(self, family: Family) -> Metric:
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        return Metric(name, family.help, family.kind)

    def _label_names(self, family: Family) -> Labels:
        if family.name == "taskq_source_annotations_info":
            return ("source", *(f"label_{key}" for key in self._annotations))
        worker = ("worker",) if self._with_worker and family.name in WITH_WORKER else ()
        return ("source", *family.labels, *worker)

    def _add_source(self, report: SourceReport, metrics: dict[str, Metric]) -> None:
        points: dict[str, dict[Labels, float]] = {}
        raw: set[tuple[str, Labels]] = set()
        bad: dict[str, str] = {}
        for name, labels, value in (*_source_points(report, self._annotations), *_snapshot_points(report.snapshot)):
            if name in bad or name in report.disabled:
                continue
            family = self._families.get(name)
            error = _check(family, labels, value) or ("duplicate series" if (name, labels) in raw else "")
            if error or family is None:
                bad[name] = f"{error}: {labels!r} {value!r}"
                continue
            raw.add((name, labels))
            _put(points.setdefault(name, {}), family, _admit(report.names, family, labels), value)
        for name, message in bad.items():
            self.violations.append(Violation(report.name, name, message))
        for name, values in points.items():
            if name not in bad:
                keys = self._label_names(self._families[name])
                metric = metrics[name]
                for labels, value in values.items():
                    metric.add_sample(name, dict(zip(keys, (report.name, *labels), strict=True)), value)
        self._add_counters(report, metrics)
        self._add_histograms(report, metrics)

    def _add_counters(self, report: SourceReport, metrics: dict[str, Metric]) -> None:
        for name, cells in report.ledger.counters.items():
            if name in report.disabled:
                continue
            keys = self._label_names(FAMILIES[name])
            metric = metrics[name]
            for labels, value, born in cells:
                shown = 0 if born > report.hold_back else value
                # zip drops the worker where no source asked for it
                metric.add_sample(name, dict(zip(keys, (report.name, *labels), strict=False)), shown)

    def _add_histograms(self, report: SourceReport, metrics: dict[str, Metric]) -> None:
        for name, cells in report.ledger.histograms.items():
            if name in report.disabled:
                continue
            keys = self._label_names(FAMILIES[name])
            metric = metrics[name]
            bounds = report.run_bounds if "_run_" in name else report.wait_bounds
            les = [*map(floatToGoString, bounds), "+Inf"]
            for labels, counts, total, born in cells:
                base = dict(zip(keys, (report.name, *labels), strict=False))
                held = born > report.hold_back
                cumulated = 0
                for le, n in zip(les, counts, strict=True):
                    cumulated += 0 if held else n
                    metric.add_sample(f"{name}_bucket", {**base, "le": le}, cumulated)
                metric.add_sample(f"{name}_count", base, cumulated)
                metric.add_sample(f"{name}_sum", base, 0.0 if held else total)


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


def _admit(names: Names, family: Family, labels: Labels) -> Labels:
    return tuple(map(names.admit, family.labels, labels)) if family.labels else labels


def _put(values: dict[Labels, float], family: Family, labels: Labels, value: float) -> None:
    """Add a sample; those over a cap meet under `_other` as the family says."""
    if (
        OTHER in labels
        and family.overflow == "drop"
        and any(label == OTHER and kind in CAPPED_LABELS for kind, label in zip(family.labels, labels, strict=True))
    ):
        return
    if labels not in values:
        values[labels] = value
    elif family.overflow == "max":
        values[labels] = max(values[labels], value)
    elif family.overflow == "sum":
        values[labels] += value


def _source_points(report: SourceReport, annotations: Sequence[str]) -> Iterator[Point]:
    """The source's own series: they stand on every page, whatever could be read."""
    yield "taskq_source_up", (), int(report.up)
    if report.annotations:
        yield "taskq_source_annotations_info", tuple(report.annotations.get(key, "") for key in annotations), 1
    yield from _known("taskq_source_collect_duration_seconds", (), report.collect_seconds)
    yield from _known("taskq_source_snapshot_age_seconds", (), report.snapshot_age)
    yield from _known("taskq_source_last_success_timestamp_seconds", (), report.last_success)
    yield from _known("taskq_source_counting_since_timestamp_seconds", (), report.ledger.since)
    for reason in Reason:
        yield "taskq_source_errors_total", (reason.value,), report.errors.get(reason, 0)
    yield from _known("taskq_source_problems", (), report.problem_count)
    yield "taskq_source_commands_total", (), report.commands
    for label, n in report.names.overflow.copy().items():
        yield "taskq_source_label_overflow_total", (label,), n
    if report.follower_up is not None:
        yield "taskq_source_follower_up", (), int(report.follower_up)
        yield "taskq_source_follower_restarts_total", (), report.follower_restarts
        yield from _known("taskq_source_follower_lag_seconds", (), report.follower_lag)
    for objective in report.objectives:
        yield "taskq_queue_objective_wait_seconds", (objective.queue,), objective.wait_seconds
        yield "taskq_queue_objective_ratio", (objective.queue,), objective.ratio
    if report.snapshot is not None:
        snapshot = report.snapshot
        yield "taskq_source_info", (report.adapter, snapshot.server, snapshot.server_version), 1


def _snapshot_points(snapshot: Snapshot | None) -> Iterator[Point]:
    """What a snapshot says, as samples of the schema's families."""
    if snapshot is None:
        return
    for query, seconds in snapshot.query_seconds.items():
        yield "taskq_source_query_duration_seconds", (query,), seconds
    for c in snapshot.capabilities:
        yield "taskq_source_capability", (c.family, c.state, c.reason), int(c.able)
    for queue in snapshot.queues:
        yield from _queue_points(queue)
    for run in snapshot.longest_runs:
        yield "taskq_task_longest_run_seconds", (run.queue, run.task), max(run.seconds, 0.0)
    states = snapshot.worker_states or _states(snapshot.workers)
    for worker_state, n in states.items():
        yield "taskq_workers", (worker_state.value,), n
    for worker in snapshot.workers:
        yield from _worker_points(worker)
    for scheduler in snapshot.schedulers:
        yield from _known("taskq_scheduler_up", (scheduler.name,), scheduler.up)
        yield from _known("taskq_scheduler_last_beat_timestamp_seconds", (scheduler.name,), scheduler.last_beat)
        yield from _known("taskq_scheduler_entries", (scheduler.name,), scheduler.entry_count)
        for entry in scheduler.entries:
            labels = (scheduler.name, entry.name)
            yield from _known("taskq_schedule_last_run_timestamp_seconds", labels, entry.last_run)
            yield from _known("taskq_schedule_next_run_timestamp_seconds", labels, entry.next_run)
    if snapshot.broker is not None:
        broker = snapshot.broker
        yield from _known("taskq_broker_roundtrip_seconds", (), broker.roundtrip_seconds)
        yield from _known("taskq_broker_memory_bytes", (), broker.memory_bytes)
        yield from _known("taskq_broker_memory_limit_bytes", (), broker.memory_limit_bytes)
        for connection_state, n in broker.connections.items():
            yield "taskq_broker_connections", (connection_state,), n
        yield from _known("taskq_broker_connections_limit", (), broker.connections_limit)
        for command, n in broker.commands.items():
            yield "taskq_broker_commands_total", (command,), n
    for sample in snapshot.samples:
        yield sample.family, sample.labels, sample.value


def _queue_points(queue: QueueStats) -> Iterator[Point]:
    q = queue.name
    for state, n in queue.tasks.items():
        yield "taskq_tasks", (q, State(state).value), n
    for (state, level), n in queue.by_priority.items():
        yield "taskq_tasks_by_priority", (q, State(state).value, level), n
    for state, capped in queue.capped.items():
        yield "taskq_tasks_capped", (q, State(state).value), int(capped)
    yield from _known("taskq_tasks_overdue", (q,), queue.overdue)
    for state, age in queue.oldest_age.items():
        # clocks differ: an age below 0 is 0
        yield "taskq_oldest_task_age_seconds", (q, State(state).value), max(age, 0.0)
    yield from _known("taskq_queue_consumers", (q,), queue.consumers)
    yield from _known("taskq_queue_slots", (q,), queue.slots)
    yield from _known("taskq_queue_paused", (q,), queue.paused)
    yield from _known("taskq_queue_bytes", (q,), queue.bytes)
    for level, n in queue.enqueued.items():
        yield "taskq_tasks_enqueued_total", (q, "", level), n


def _worker_points(worker: WorkerStats) -> Iterator[Point]:
    w = worker.name
    yield from _known("taskq_worker_up", (w,), worker.up)
    if worker.pool or worker.software:
        yield "taskq_worker_info", (w, worker.pool, worker.software, worker.software_version), 1
    yield from _known("taskq_worker_slots", (w,), worker.slots)
    yield from _known("taskq_worker_prefetch_limit", (w,), worker.prefetch_limit)
    for state, n in worker.tasks.items():
        yield "taskq_worker_tasks", (w, state), n
    yield from _known("taskq_worker_last_heartbeat_timestamp_seconds", (w,), worker.last_heartbeat)
    yield from _known("taskq_worker_start_timestamp_seconds", (w,), worker.started)
    yield from _known("taskq_worker_longest_run_seconds", (w,), worker.longest_run)
    for outcome, n in worker.finished.items():
        yield "taskq_worker_tasks_finished_total", (w, outcome.value), n
    yield from _known("taskq_worker_busy_seconds_total", (w,), worker.busy_seconds)
    yield from _known("taskq_worker_restarts_total", (w,), worker.restarts)


def _states(workers: Sequence[WorkerStats]) -> dict[WorkerState, int]:
    """Workers by state; the states that these workers can be in start at 0."""
    states = [worker.state for worker in workers if worker.state is not None]
    if not states:
        return {}
    return {s: states.count(s) for s in (WorkerState.IDLE, WorkerState.BUSY, WorkerState.OFFLINE, *states)}


def _known(name: str, labels: Labels, value: float | bool | None) -> Iterator[Point]:
    if value is not None:
        yield name, labels, int(value) if isinstance(value, bool) else value
