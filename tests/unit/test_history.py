"""The last minutes of a source: samples, rates, and when they are not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from taskq_exporter.api import BrokerStats, QueueStats, Snapshot, State
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.report import SourceReport
from taskq_exporter.view.history import EVERY, KEEP, POINTS, History


def report(
    ready: int | None = None, finished: Mapping[tuple[str, str], float] | None = None, **changes: Any
) -> SourceReport:
    """Of a queue "q" with so many ready tasks, and totals by (task, outcome)."""
    tasks = {State.READY: ready} if ready is not None else {}
    counters = [(("q", task, outcome, ""), n, 0.0) for (task, outcome), n in (finished or {}).items()]
    view = LedgerView({"taskq_tasks_finished_total": counters} if finished is not None else {})
    snapshot = Snapshot(queues=[QueueStats(name="q", tasks=tasks)])
    names = Names({}, {}, lambda: 0.0)
    common: dict[str, Any] = {"snapshot": snapshot, "up": True, "follower_up": True, **changes}
    return SourceReport(name="s", adapter="fake", names=names, ledger=view, **common)


OK, BAD = ("t", "succeeded"), ("t", "failed")


def test_samples_are_taken_from_what_pages_ask_for_and_not_too_often() -> None:
    history = History()
    for second, ready in ((0, 5), (1, 99), (EVERY, 7), (EVERY + 1, 99), (3 * EVERY, None)):
        history.note(report(ready), second)
    assert history.ready("q") == (5, 7, None)
    assert history.ready("never seen") == ()
    assert history.report is not None
    assert history.noted_at == 3 * EVERY


def test_rates_are_those_of_the_last_minutes() -> None:
    history = History()
    history.note(report(0, {OK: 100, BAD: 10}), 0)
    assert history.finished_per_second("q") is None, "one sample is no rate"
    history.note(report(0, {OK: 130, BAD: 10}), 10)
    history.note(report(0, {OK: 160, BAD: 20}), 20)
    assert history.finished_per_second("q") == pytest.approx(70 / 20)
    assert history.failed_per_second("q") == pytest.approx(10 / 20)
    assert history.finished_per_second("other") is None
    for second in range(30, 420, 10):
        history.note(report(0, {OK: 160, BAD: 20}), second)
    assert history.finished_per_second("q") == 0, "what was before the last minutes does not count"


def test_a_rate_is_not_known_while_nobody_counts() -> None:
    history = History()
    for second, follows in ((0, True), (10, True), (20, False)):
        history.note(report(0, {OK: second}, follower_up=follows), second)
    assert history.finished_per_second("q") is None
    assert history.failed_per_second("q") is None
    history.note(report(0, {OK: 500}), 30)
    assert history.finished_per_second("q") == pytest.approx(1), "what was caught up with has no time of its own"
    assert history.failed_per_second("q") is None, "a source that tells successes alone"
    nobody = History()
    for second in (0, 10):
        nobody.note(report(3), second)
    assert nobody.finished_per_second("q") is None


def test_the_first_tasks_ever_count() -> None:
    history = History()
    history.note(report(4), 0)
    assert history.finished_per_second("q") is None, "who has told nothing yet may never do"
    history.note(report(0, {OK: 3, BAD: 1}), 10)
    assert history.finished_per_second("q") == pytest.approx(0.4)
    assert history.failed_per_second("q") == pytest.approx(0.1)


def test_counters_that_are_forgotten_or_begin_anew_are_no_work() -> None:
    history = History()
    gone = ("gone", "succeeded")
    for second, totals in (
        (0, {OK: 50, gone: 9000}),
        (10, {OK: 60, gone: 9000}),
        (20, {OK: 70}),  # `gone` was not touched for a day
        (30, {OK: 80}),
        (40, {OK: 1}),  # and a new count
        (50, {OK: 11}),
    ):
        history.note(report(0, totals), second)
    assert history.finished_per_second("q") == pytest.approx((10 + 0 + 10 + 0 + 10) / 50)


def test_history_is_bounded_in_points_time_and_queues() -> None:
    history = History(queues=3)
    for i in range(3 * POINTS):
        history.note(report(i), i * EVERY)
    assert len(history.ready("q")) == POINTS
    assert history.ready("q")[-1] == 3 * POINTS - 1
    last = 3 * POINTS * EVERY
    many = Snapshot(queues=[QueueStats(name=f"q{i}", tasks={State.READY: 1}) for i in range(10)])
    history.note(report(snapshot=many), last)
    assert [bool(history.ready(f"q{i}")) for i in range(10)].count(True) == 2, "first come, first kept"
    history.note(report(2), last + KEEP + 1)
    assert history.ready("q") == (2,), "what is too old is forgotten"
    others = Snapshot(queues=[QueueStats(name="r", tasks={State.READY: 1})])
    history.note(report(snapshot=others), last + KEEP + 10)
    assert history.ready("r") == (None, 1), "queues that are gone make room"


def test_operations_a_second_are_the_difference_of_what_the_server_counts() -> None:
    history = History()
    for second, commands, rate in (
        (0, {"get": 10, "set": 5}, None),
        (10, {"get": 40, "set": 25}, 5.0),
        (20, {"get": 40, "set": 25}, 2.5),  # asked more seldom than samples are taken
        (30, {"get": 1}, None),  # it was restarted
        (40, {"get": 11}, 1.0),
        (100, {"get": 611}, 10.0),  # over the last minute
        (110, {}, None),
        (120, {"commit": 10, "rollback": 1, "fetch": 10**6}, None),
        (130, {"commit": 29, "rollback": 2, "fetch": 10**9}, 2.0),  # rows are no operations
    ):
        history.note(report(snapshot=Snapshot(broker=BrokerStats(commands=commands))), second)
        assert history.operations_per_second == rate
    history.note(report(snapshot=None, up=False), 140)
    assert history.operations_per_second is None
