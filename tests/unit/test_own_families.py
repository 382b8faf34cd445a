"""Counters and histograms of an adapter's own: counted, capped, filtered, shown, and continued from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Clock
from reports import report

from taskq_exporter.api import Family, NameFilter, Snapshot
from taskq_exporter.checkpoint import Checkpoint, StateDir
from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.schema import CAPPED_LABELS

COUNTER, HISTOGRAM = "taskq_fake_messages_total", "taskq_fake_latency_seconds"
FAMILIES = {
    COUNTER: Family(name=COUNTER, kind="counter", help="Messages.", labels=("queue", "method")),
    HISTOGRAM: Family(name=HISTOGRAM, kind="histogram", help="Latency.", labels=("queue",), buckets=(0.1, 1.0)),
}


def make(own: dict[str, Family] | None = None, **options: object) -> SourceLedger:
    clock = Clock()
    names = Names({**CAPPED_LABELS, "method": 2}, {}, clock)
    return SourceLedger(names, clock, own=FAMILIES if own is None else own, **options)  # type: ignore[arg-type]


def filled() -> LedgerView:
    ledger = make()
    ledger.count(COUNTER, ("q", "push"), 2)
    ledger.count(COUNTER, ("q", "push"))
    for seconds in (-1, 0.1, 0.5, 9):
        ledger.observe(HISTOGRAM, ("q",), seconds)
    ledger.retried("q", "t", n=5)
    return ledger.freeze()


def test_they_are_counted() -> None:
    view = filled()
    assert [(labels, n) for labels, n, _ in view.counters[COUNTER]] == [(("q", "push"), 3)]
    assert [(labels, counts, total) for labels, counts, total, _ in view.histograms[HISTOGRAM]] == [
        (("q",), (2, 1, 1), 9.6)
    ]


def test_filters_and_caps_hold() -> None:
    ledger = make(queues=NameFilter(exclude=("tmp",)))
    for i in range(5):
        ledger.count(COUNTER, ("q", f"m{i}"))
        ledger.count(COUNTER, ("tmp", "m0"))
    view = ledger.freeze()
    assert {labels: n for labels, n, _ in view.counters[COUNTER]} == {
        ("q", "m0"): 1, ("q", "m1"): 1, ("q", "_other"): 3
    }  # fmt: skip


@pytest.mark.parametrize("labels", [(), ("q",), ("q", "m", "x")])
def test_labels_that_are_not_the_familys_are_a_bug(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        make().count(COUNTER, labels)


def test_they_stand_on_the_page() -> None:
    shown = report(Snapshot(), ledger=filled(), families=FAMILIES)
    collector = SnapshotCollector([shown])
    samples = {
        (s.name, s.labels.get("le", "")): s.value
        for metric in collector.collect()
        for s in metric.samples
        if s.name.startswith("taskq_fake")
    }
    assert collector.violations == []
    assert samples == {
        (COUNTER, ""): 3,
        (f"{HISTOGRAM}_bucket", "0.1"): 2,
        (f"{HISTOGRAM}_bucket", "1.0"): 3,
        (f"{HISTOGRAM}_bucket", "+Inf"): 4,
        (f"{HISTOGRAM}_count", ""): 4,
        (f"{HISTOGRAM}_sum", ""): 9.6,
    }


def test_they_go_on_from_a_checkpoint_and_what_has_no_such_shape_any_more_is_left_out(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.write("s", "f", Checkpoint(filled(), {}))
    held = state.read("s", "f")
    assert held is not None
    same = make()
    same.restore(held.ledger)
    same.count(COUNTER, ("q", "push"))
    view = same.freeze()
    assert [n for _, n, _ in view.counters[COUNTER]] == [4]
    assert view.histograms == filled().histograms

    def shape(family: Family, *labels: str, buckets: tuple[float, ...] = ()) -> Family:
        return Family(name=family.name, kind=family.kind, help="", labels=labels, buckets=buckets)

    others = {
        COUNTER: shape(FAMILIES[COUNTER], "queue"),
        HISTOGRAM: shape(FAMILIES[HISTOGRAM], "queue", buckets=(1.0,)),
    }
    for own in (others, {}):
        other = make(own)
        other.restore(held.ledger)
        view = other.freeze()
        assert [n for _, n, _ in view.counters.pop("taskq_tasks_retried_total")] == [5]
        assert not view.counters
        assert not view.histograms
