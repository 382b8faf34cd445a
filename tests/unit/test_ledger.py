from __future__ import annotations

import pytest
from fakes import Clock

from taskq_exporter.api import NameFilter, Outcome
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.counts.names import Names
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.schema import CAPPED_LABELS

FINISHED = "taskq_tasks_finished_total"
RUN = "taskq_task_run_duration_seconds"


def make(clock: Clock | None = None, caps: dict[str, int] | None = None, **options: object) -> SourceLedger:
    clock = clock or Clock()
    names = Names({**CAPPED_LABELS, **(caps or {})}, {"queue": 100.0, "task": 100.0}, clock)
    return SourceLedger(names, clock, **options)  # type: ignore[arg-type]


def values(view: LedgerView, family: str) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value, _ in view.counters.get(family, [])}


def test_a_pair_seen_first_starts_what_the_follower_counts_at_zero() -> None:
    ledger = make()
    ledger.counts("retried", "finished")
    ledger.finished("q", "t", Outcome.FAILED)
    view = ledger.freeze()
    assert values(view, FINISHED) == {("q", "t", "failed", ""): 1, ("q", "t", "succeeded", ""): 0}
    assert values(view, "taskq_tasks_retried_total") == {("q", "t", ""): 0}
    assert "taskq_tasks_enqueued_total" not in view.counters
    assert "taskq_tasks_started_total" not in view.counters


def test_a_counter_that_becomes_known_later_starts_at_zero_for_known_pairs() -> None:
    ledger = make()
    ledger.counts("finished")
    ledger.finished("q", "t", Outcome.SUCCEEDED)
    ledger.counts("enqueued", "finished")
    assert values(ledger.freeze(), "taskq_tasks_enqueued_total") == {("q", "t", ""): 0}


def test_waits_make_no_zero_series() -> None:
    ledger = make()
    ledger.counts("finished")
    ledger.waited("q", 1.0, "t")
    assert values(ledger.freeze(), FINISHED) == {}


@pytest.mark.parametrize(("seconds", "bucket"), [(0.005, 0), (0.0051, 1), (3600, 13), (3600.1, 14), (-5, 0)])
def test_buckets_include_their_upper_bound(seconds: float, bucket: int) -> None:
    ledger = make()
    ledger.ran("q", "t", Outcome.SUCCEEDED, seconds)
    [(_, counts, total, _)] = ledger.freeze().histograms[RUN]
    assert counts.index(1) == bucket
    assert total == max(seconds, 0)


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    one, many = make(run_bounds=(1.0, 2.0)), make(run_bounds=(1.0, 2.0))
    for seconds in (0.5, 1.5, 1.75, 9):
        one.ran("q", "t", Outcome.FAILED, seconds)
    many.ran_many("q", "t", Outcome.FAILED, [1, 2, 1], 12.75)
    assert one.freeze().histograms == many.freeze().histograms


def test_exploding_names_add_up_under_other() -> None:
    ledger = make(caps={"task": 3})
    for i in range(50):
        ledger.finished("q", f"t{i}", Outcome.SUCCEEDED)
    kept = values(ledger.freeze(), FINISHED)
    assert kept[("q", "_other", "succeeded", "")] == 47
    assert len(kept) == 4
    assert sum(kept.values()) == 50


def test_label_sets_are_capped_per_family() -> None:
    ledger = make(label_sets=10)
    for i in range(100):
        ledger.exception("q", "t", f"E{i}")
    kept = values(ledger.freeze(), "taskq_task_exceptions_total")
    assert len(kept) == 11
    assert kept[("_other", "_other", "_other")] == 90


def test_memory_stays_bounded_with_hostile_names() -> None:
    ledger = make(label_sets=10)
    for i in range(5000):
        ledger.finished(f"q{i}", f"t{i}", Outcome.SUCCEEDED)
    assert len(ledger._pairs) <= 21
    assert len(ledger._zeroed) <= 10
    assert sum(values(ledger.freeze(), FINISHED).values()) == 5000


def test_label_sets_that_nothing_touches_are_dropped_and_start_at_zero_again() -> None:
    clock = Clock()
    ledger = make(clock, series_ttl=50)
    ledger.counts("finished")
    ledger.finished("q", "old", Outcome.SUCCEEDED, n=5)
    ledger.workers_lost()
    clock.now += 40
    ledger.freeze()
    ledger.finished("q", "new", Outcome.SUCCEEDED)
    clock.now += 40
    view = ledger.freeze()
    assert {labels[1] for labels in values(view, FINISHED)} == {"new"}
    assert values(view, "taskq_workers_lost_total") == {(): 1}
    ledger.finished("q", "old", Outcome.FAILED)
    assert values(ledger.freeze(), FINISHED)[("q", "old", "succeeded", "")] == 0


def test_filters_and_task_labels_decide_what_is_carried() -> None:
    ledger = make(
        task_labels=("queue", "worker"), queues=NameFilter(exclude=("tmp.*",)), tasks=NameFilter(exclude=("x",))
    )
    ledger.finished("tmp.1", "t", Outcome.SUCCEEDED)
    ledger.finished("q", "x", Outcome.SUCCEEDED)
    ledger.waited("tmp.1", 1)
    ledger.finished("q", "t", Outcome.SUCCEEDED, worker="w1")
    ledger.finished("q", "u", Outcome.SUCCEEDED, worker="w1")
    view = ledger.freeze()
    assert values(view, FINISHED) == {("q", "", "succeeded", "w1"): 2}
    assert view.histograms == {}


def test_restored_it_continues_exactly() -> None:
    ledger = make()
    ledger.counts("finished")
    ledger.following()
    ledger.finished("q", "t", Outcome.FAILED, n=7)
    ledger.ran("q", "t", Outcome.FAILED, 2.0)
    ledger.cursor = {"at": 5}
    saved = ledger.freeze()
    again = make()
    again.restore(saved)
    assert again.cursor == {"at": 5}
    assert again.since == ledger.since
    again.counts("finished")
    again.finished("q", "t", Outcome.FAILED)
    assert values(again.freeze(), FINISHED) == {("q", "t", "failed", ""): 8, ("q", "t", "succeeded", ""): 0}


def test_start_over_forgets_everything() -> None:
    ledger = make()
    said: list[str] = []
    ledger.on_start_over = said.append
    ledger.finished("q", "t", Outcome.SUCCEEDED)
    ledger.cursor = 9
    ledger.start_over("the server is another")
    assert ledger.cursor is None
    assert ledger.freeze().counters == {}
    assert said == ["the server is another"]


def test_a_frozen_view_does_not_change() -> None:
    ledger = make()
    ledger.cursor = {"ids": [1]}
    ledger.finished("q", "t", Outcome.SUCCEEDED)
    view = ledger.freeze()
    ledger.finished("q", "t", Outcome.SUCCEEDED)
    ledger.cursor["ids"].append(2)
    assert values(view, FINISHED) == {("q", "t", "succeeded", ""): 1}
    assert view.cursor == '{"ids": [1]}'


def test_names_are_cut_cleaned_and_forgotten() -> None:
    clock = Clock()
    names = Names({"queue": 2}, {"queue": 10}, clock)
    assert names.admit("queue", "a\ud800b") == "a?b"
    assert len(names.admit("queue", "x" * 5000)) == 256
    assert names.admit("queue", "third") == "_other"
    assert names.overflow == {"queue": 1}
    assert names.admit("queue", "") == ""
    clock.now += 11
    names.expire()
    assert names.admit("queue", "third") == "third"


def test_what_was_counted_before_an_expiry_or_a_new_start_is_not_counted_on() -> None:
    clock = Clock()
    ledger = make(clock, series_ttl=10.0)
    ledger.counts("finished")
    for _ in range(2):
        ledger.finished("q", "t", Outcome.FAILED)
    ledger.freeze()
    clock.now += 20
    ledger.freeze()
    clock.now += 20
    assert values(ledger.freeze(), FINISHED) == {}
    ledger.finished("q", "t", Outcome.FAILED)
    assert values(ledger.freeze(), FINISHED)["q", "t", "failed", ""] == 1
    ledger.finished("q", "t", Outcome.FAILED)
    ledger.start_over("a test")
    ledger.finished("q", "t", Outcome.FAILED)
    assert values(ledger.freeze(), FINISHED)["q", "t", "failed", ""] == 1


@pytest.mark.parametrize("n", [-1, float("inf"), float("nan")])
def test_a_counter_that_is_in_use_refuses_what_a_new_one_refuses(n: float) -> None:
    ledger = make()
    ledger.started("q", "t")
    with pytest.raises(ValueError, match="cannot change"):
        ledger.started("q", "t", n=n)  # type: ignore[arg-type]
