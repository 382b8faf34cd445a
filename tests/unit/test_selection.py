from __future__ import annotations

from dataclasses import replace

from reports import FULL, full_ledger, full_report, series

from taskq_exporter.points import snapshot_points
from taskq_exporter.selection import COUNTED, KEPT_BY_BACKENDS, WITHOUT_COLLECT, Selection


def test_which_families_need_no_look_at_the_source_and_which_rest_on_a_checkpoint() -> None:
    ledger = full_ledger()
    told_by_collects = {name for name, _, _ in snapshot_points(FULL)}
    assert {*ledger.counters, *ledger.histograms, "taskq_source_counting_since_timestamp_seconds"} == COUNTED
    assert COUNTED & told_by_collects == KEPT_BY_BACKENDS
    assert not WITHOUT_COLLECT & told_by_collects
    for name in WITHOUT_COLLECT:
        selected = Selection(frozenset({name}))
        assert not selected.collects({}, ())
        looked = full_report()
        without = series(replace(looked, snapshot=None, up=False), selection=selected)
        assert without == series(looked, selection=selected) != {}
    assert Selection(frozenset({"taskq_tasks"})).collects({}, ())
    assert not Selection(frozenset({"taskq_tasks"})).collects({}, ("taskq_tasks",)), "it is disabled"
