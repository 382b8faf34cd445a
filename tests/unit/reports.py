"""Reports of one source, and what stands on their page."""

from __future__ import annotations

from typing import Any

from fakes import Clock

from taskq_exporter.api import (
    BrokerStats,
    Capability,
    DropReason,
    LongestRun,
    Outcome,
    QueueStats,
    ScheduleEntry,
    SchedulerStats,
    Snapshot,
    State,
    WorkerState,
    WorkerStats,
)
from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.report import Objective, SourceReport
from taskq_exporter.schema import CAPPED_LABELS


def report(snapshot: Snapshot | None, name: str = "s", caps: dict[str, int] | None = None, **more: Any) -> SourceReport:
    names = Names({**CAPPED_LABELS, **(caps or {})}, {}, Clock())
    return SourceReport(name=name, adapter="fake", names=names, up=snapshot is not None, snapshot=snapshot, **more)


def series(*reports: SourceReport, **options: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    collector = SnapshotCollector(reports, **options)
    result = {}
    for metric in collector.collect():
        for sample in metric.samples:
            key = (sample.name, frozenset(item for item in sample.labels.items() if item[0] != "source"))
            result[key] = sample.value
    return result


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


FULL = Snapshot(
    server="x",
    server_version="1",
    queues=[
        QueueStats(
            name="q",
            tasks=dict.fromkeys(State, 1),
            by_priority={(State.READY, "high"): 1},
            capped={State.READY: False},
            overdue=0,
            oldest_age={State.READY: -1.0, State.RUNNING: 2.0},
            consumers=1,
            slots=4,
            paused=False,
            bytes=10,
            enqueued={"high": 5},
        )
    ],
    longest_runs=[LongestRun(queue="q", task="t", seconds=1.0)],
    workers=[
        WorkerStats(
            name="w",
            up=True,
            state=WorkerState.BUSY,
            pool="prefork",
            software="celery",
            software_version="5",
            slots=4,
            prefetch_limit=16,
            tasks={"running": 1},
            last_heartbeat=1.0,
            started=1.0,
            longest_run=3.0,
            finished={Outcome.SUCCEEDED: 5},
            busy_seconds=1.5,
            restarts=0,
        )
    ],
    schedulers=[
        SchedulerStats(
            name="beat",
            up=True,
            last_beat=1.0,
            entry_count=1,
            entries=[ScheduleEntry(name="e", last_run=1.0, next_run=2.0)],
        )
    ],
    broker=BrokerStats(
        roundtrip_seconds=0.1,
        memory_bytes=1,
        memory_limit_bytes=2,
        connections={"active": 1},
        connections_limit=10,
        slow_statement_seconds=1.5,
        commands={"get": 1},
    ),
    capabilities=[Capability(family="taskq_tasks", state="ready")],
    query_seconds={"ready": 0.1},
)


def full_ledger() -> LedgerView:
    names = Names(CAPPED_LABELS, {}, Clock())
    ledger = SourceLedger(names, Clock())
    ledger.counts("enqueued", "received", "started", "retried", "finished")
    ledger.following()
    ledger.finished("q", "t", Outcome.SUCCEEDED)
    ledger.ran("q", "t", Outcome.SUCCEEDED, 1)
    ledger.waited("q", 1)
    ledger.redelivered("q", "t")
    ledger.exception("q", "t", "E")
    ledger.workers_started()
    ledger.workers_lost()
    ledger.worker_finished("w2", Outcome.SUCCEEDED)
    ledger.worker_busy("w2", 1)
    ledger.events()
    ledger.dropped(DropReason.DECODE)
    return ledger.freeze()


def full_report() -> SourceReport:
    r = report(
        FULL,
        ledger=full_ledger(),
        collect_seconds=0.1,
        snapshot_age=0.0,
        last_success=1.0,
        follower_up=True,
        follower_lag=0.0,
        problem_count=0,
        annotations={"team": "growth"},
        objectives=[Objective("q", 30.0, 0.99)],
    )
    r.names.overflow["task"] = 1
    return r
