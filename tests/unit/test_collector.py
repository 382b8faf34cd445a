from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from reports import full_ledger, full_report, key, report, series

from taskq_exporter.api import (
    Capability,
    Family,
    Finding,
    Problem,
    QueueStats,
    Reason,
    Sample,
    Snapshot,
    State,
    WorkerStats,
)
from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.exposition import OPENMETRICS, TEXT, encode
from taskq_exporter.runtime.snapshots import merge, with_known_queues
from taskq_exporter.schema import FAMILIES


def test_every_family_of_the_schema_can_reach_the_page() -> None:
    seen = {metric.name for metric in SnapshotCollector([full_report()]).collect()}
    assert seen == {name.removesuffix("_total") for name in FAMILIES}


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
def test_a_page_is_valid_and_has_no_duplicate_series(form: Any) -> None:
    body = encode([SnapshotCollector([full_report(), report(None, "down")])], form, gzip=False).decode()
    lines = [line.rsplit(" ", 1)[0] for line in body.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    if form is OPENMETRICS:
        list(parse_openmetrics(body))


def test_a_source_that_is_down_has_no_gauges_but_keeps_its_counters() -> None:
    got = series(report(None, ledger=full_ledger(), errors={Reason.CONNECT: 3}))
    assert got[key("taskq_source_up")] == 0
    assert got[key("taskq_source_errors_total", reason="connect")] == 3
    assert got[key("taskq_source_errors_total", reason="bug")] == 0
    assert got[key("taskq_tasks_finished_total", queue="q", task="t", outcome="succeeded")] == 1
    assert not [name for name, _ in got if name.startswith(("taskq_tasks{", "taskq_queue", "taskq_worker_up"))]


def test_ages_are_clamped_and_absent_is_not_zero() -> None:
    got = series(report(Snapshot(queues=[QueueStats(name="q", oldest_age={State.READY: -3.0})])))
    assert got[key("taskq_oldest_task_age_seconds", queue="q", state="ready")] == 0
    assert key("taskq_queue_consumers", queue="q") not in got


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "3", None, True])
def test_a_bad_value_drops_only_that_family_of_that_source(value: Any) -> None:
    bad = Snapshot(queues=[QueueStats(name="q", tasks={State.READY: value}, consumers=2)])
    good = Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 1})])
    collector = SnapshotCollector([report(bad, "bad"), report(good, "good")])
    tasks = [s for m in collector.collect() if m.name == "taskq_tasks" for s in m.samples]
    assert [(s.labels["source"], s.value) for s in tasks] == [("good", 1)]
    assert [(v.source, v.family) for v in collector.violations] == [("bad", "taskq_tasks")]


def test_duplicates_and_unknown_families_are_violations() -> None:
    twice = Snapshot(
        queues=[QueueStats(name="q", tasks={State.READY: 1}), QueueStats(name="q", tasks={State.READY: 2})],
        samples=[Sample("taskq_nobody_knows", (), 1.0)],
    )
    collector = SnapshotCollector([report(twice)])
    assert not [m for m in collector.collect() if m.name == "taskq_tasks"]
    assert {v.family for v in collector.violations} == {"taskq_tasks", "taskq_nobody_knows"}


def test_over_the_cap_counts_add_up_ages_take_the_maximum_and_the_rest_is_left_out() -> None:
    queues = [
        QueueStats(name=f"q{i}", tasks={State.READY: 1}, oldest_age={State.READY: float(i)}, paused=True)
        for i in range(10)
    ]
    got = series(report(Snapshot(queues=queues), caps={"queue": 4}))
    assert got[key("taskq_tasks", queue="_other", state="ready")] == 6
    assert got[key("taskq_oldest_task_age_seconds", queue="_other", state="ready")] == 9
    assert key("taskq_queue_paused", queue="_other") not in got


def test_hostile_names_reach_the_page_escaped() -> None:
    name = 'a"b\\c\nd\ud800' + "x" * 1000
    body = encode(
        [SnapshotCollector([report(Snapshot(queues=[QueueStats(name=name, tasks={State.READY: 1})]))])], TEXT, False
    )
    [line] = [line for line in body.decode().splitlines() if line.startswith("taskq_tasks{")]
    assert 'queue="a\\"b\\\\c\\nd?xxx' in line
    assert len(line) < 400


def test_a_series_born_after_a_scrapers_last_page_stands_at_zero() -> None:
    ledger = LedgerView(
        counters={
            "taskq_tasks_finished_total": [
                (("q", "old", "failed", ""), 5, 100.0),
                (("q", "new", "failed", ""), 3, 200.0),
            ]
        },
        histograms={"taskq_task_wait_duration_seconds": [(("q",), (1, *[0] * 14), 2.0, 200.0)]},
    )
    got = series(report(Snapshot(), ledger=ledger, hold_back=150.0))
    assert got[key("taskq_tasks_finished_total", queue="q", task="old", outcome="failed")] == 5
    assert got[key("taskq_tasks_finished_total", queue="q", task="new", outcome="failed")] == 0
    assert got[key("taskq_task_wait_duration_seconds_count", queue="q")] == 0
    assert got[key("taskq_task_wait_duration_seconds_sum", queue="q")] == 0


def test_worker_is_a_label_only_where_a_source_asks_for_it() -> None:
    ledger = LedgerView(counters={"taskq_tasks_finished_total": [(("q", "t", "failed", "w"), 5, 1.0)]})
    without = series(report(Snapshot(), ledger=ledger))
    assert key("taskq_tasks_finished_total", queue="q", task="t", outcome="failed") in without
    both = series(
        report(Snapshot(), "a", ledger=ledger, with_worker=True), report(Snapshot(), "b", ledger=LedgerView())
    )
    assert key("taskq_tasks_finished_total", queue="q", task="t", outcome="failed", worker="w") in both


def test_disabled_families_are_left_out_and_own_families_are_shown() -> None:
    own = Family(name="taskq_fake_index_built", kind="gauge", help="Whether.", labels=("queue",))
    snapshot = Snapshot(
        queues=[QueueStats(name="q", tasks={State.READY: 1})], samples=[Sample("taskq_fake_index_built", ("q",), 1.0)]
    )
    got = series(report(snapshot, disabled=("taskq_tasks",), families={own.name: own}))
    assert key("taskq_tasks", queue="q", state="ready") not in got
    assert got[key("taskq_fake_index_built", queue="q")] == 1


def test_the_series_of_a_source_are_counted() -> None:
    collector = SnapshotCollector([full_report()])
    samples = [s for m in collector.collect() for s in m.samples]
    [own] = [s.value for s in samples if s.name == "taskq_source_series"]
    assert own == len(samples) - 1


ABLE = [
    Capability(family="taskq_tasks", state="ready"),
    Capability(family="taskq_oldest_task_age_seconds", state="ready"),
    Capability(family="taskq_queue_consumers"),
    Capability(family="taskq_queue_slots"),
]


def test_a_queue_once_seen_stands_at_zero() -> None:
    filled = with_known_queues(
        Snapshot(queues=[QueueStats(name="a", tasks={State.READY: 2})], capabilities=ABLE), ["a", "new", "gone", "gone"]
    )
    assert [(q.name, dict(q.tasks)) for q in filled.queues] == [
        ("a", {State.READY: 2}),
        ("new", {State.READY: 0}),
        ("gone", {State.READY: 0}),
    ]
    assert filled.queues[2].oldest_age == {State.READY: 0.0}


def test_a_queue_that_nobody_reads_has_no_consumers_and_no_slots() -> None:
    queues = [QueueStats(name="read", consumers=2, slots=8), QueueStats(name="unread", tasks={State.READY: 2})]
    filled = with_known_queues(Snapshot(queues=queues, capabilities=ABLE), ["gone"])
    assert [(q.name, q.consumers, q.slots) for q in filled.queues] == [("read", 2, 8), ("unread", 0, 0), ("gone", 0, 0)]
    unable = [Capability(family="taskq_queue_consumers", reason="backend")]
    filled = with_known_queues(Snapshot(queues=queues, capabilities=unable), ["gone"])
    assert [(q.consumers, q.slots) for q in filled.queues] == [(2, 8), (None, None), (None, None)]


def test_consumers_that_could_not_be_read_are_not_zero() -> None:
    problems = [Problem(reason=Reason.PERMISSION, part="consumers")]
    queues = [QueueStats(name="a", slots=8), QueueStats(name="b")]
    filled = with_known_queues(Snapshot(queues=queues, capabilities=ABLE, problems=problems), ["gone"])
    assert [(q.consumers, q.slots) for q in filled.queues] == [(None, 8), (None, None), (None, 0)]


def test_a_server_that_tells_nothing_of_itself_makes_no_count_unknown() -> None:
    problems = [Problem(reason=Reason.PERMISSION, part="server")]
    filled = with_known_queues(Snapshot(capabilities=ABLE, problems=problems), ["gone"])
    assert [q.consumers for q in filled.queues] == [0]


def test_what_could_not_be_read_is_not_zero() -> None:
    filled = with_known_queues(
        Snapshot(
            queues=[QueueStats(name="a", oldest_age={State.READY: 1.0}), QueueStats(name="broken")],
            capabilities=ABLE,
            problems=[Problem(reason=Reason.PERMISSION, part="tasks")],
        ),
        ["gone"],
    )
    assert [dict(q.tasks) for q in filled.queues] == [{}, {}, {}]
    assert [dict(q.oldest_age) for q in filled.queues] == [{State.READY: 1.0}, {}, {State.READY: 0.0}]


def test_an_age_that_nobody_knows_is_not_zero() -> None:
    queues = [QueueStats(name="a", tasks={State.READY: 2}), QueueStats(name="b", tasks={State.READY: 0})]
    filled = with_known_queues(Snapshot(queues=queues, capabilities=ABLE), [])
    assert [dict(q.oldest_age) for q in filled.queues] == [{}, {State.READY: 0.0}]


def test_a_queue_that_could_not_be_looked_for_is_not_empty() -> None:
    partial = Snapshot(queues=[QueueStats(name="a", tasks={State.READY: 2})], queues_complete=False, capabilities=ABLE)
    assert [q.name for q in with_known_queues(partial, ["gone"]).queues] == ["a"]


def test_duplicates_stay_for_the_collector_to_find() -> None:
    twice = [QueueStats(name="a"), QueueStats(name="a")]
    assert [q.name for q in with_known_queues(Snapshot(queues=twice), ["a"]).queues] == ["a", "a"]


def test_the_followers_view_is_laid_over_the_collect() -> None:
    base = Snapshot(
        server="redis",
        queues=[QueueStats(name="a", tasks={State.READY: 2}, consumers=1), QueueStats(name="b")],
        capabilities=[Capability(family="taskq_tasks", state="running", reason="backend")],
        commands=3,
        findings=[Finding(level="note", text="said by both")],
    )
    view = Snapshot(
        queues=[QueueStats(name="a", tasks={State.RUNNING: 1}), QueueStats(name="c", slots=2)],
        capabilities=[Capability(family="taskq_tasks", state="running")],
        workers=[WorkerStats(name="w", up=True)],
        findings=[Finding(level="note", text="said by both"), Finding(level="problem", text="said by one")],
    )
    merged = merge(base, view)
    assert merged.server == "redis"
    assert merged.commands == 3
    assert [(q.name, dict(q.tasks), q.consumers, q.slots) for q in merged.queues] == [
        ("a", {State.READY: 2, State.RUNNING: 1}, 1, None),
        ("b", {}, None, None),
        ("c", {}, None, 2),
    ]
    assert [c.able for c in merged.capabilities] == [True]
    assert [w.name for w in merged.workers] == ["w"]
    assert [f.text for f in merged.findings] == ["said by both", "said by one"]
