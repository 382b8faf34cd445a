"""Names of other exporters: what the mappings say, and what the ledger and the page make of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import Clock
from reports import key, report, series

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Family, NameFilter, Outcome, QueueStats, Snapshot, State, WorkerStats
from taskq_exporter.checkpoint import Checkpoint, StateDir
from taskq_exporter.compat.ledger import MappedLedger
from taskq_exporter.compat.mapping import MappedFamily, Rule, growth, load, mapped_families, mapping_names
from taskq_exporter.config.load import load_config
from taskq_exporter.config.mistakes import ConfigError
from taskq_exporter.config.settings import CompatConfig
from taskq_exporter.counts.names import Names
from taskq_exporter.schema import CAPPED_LABELS, FAMILIES
from taskq_exporter.selection import Selection

#: What the ledger is told with a task, beside the labels of the family.
TOLD = {
    **{f"taskq_tasks_{what}_total": {"worker"} for what in ("received", "started", "retried")},
    "taskq_tasks_finished_total": {"worker", "exception"},
    "taskq_task_run_duration_seconds": {"worker"},
    "taskq_task_wait_duration_seconds": {"worker", "task"},
}


class Options:
    alias = "default"


def mapped(*names: str, **more: Any) -> tuple[MappedFamily, ...]:
    return mapped_families([CompatConfig(mapping=name, **more) for name in names], Options())


def ledger_of(families: tuple[MappedFamily, ...], clock: Clock | None = None, **options: Any) -> MappedLedger:
    clock = clock or Clock()
    return MappedLedger(families, Names(CAPPED_LABELS, {}, clock), clock, **options)


@pytest.mark.parametrize("name", mapping_names())
def test_a_mapping_fits_the_schema(name: str) -> None:
    adapters = Adapters()
    families = {**FAMILIES, **{n: f for of in load(name).adapters for n, f in adapters.get(of).families.items()}}
    for theirs in mapped(name):
        assert re.fullmatch("[a-z_]+", theirs.name)
        assert theirs.name.endswith("_total") == (theirs.family.kind == "counter")
        assert bool(theirs.buckets) == (theirs.family.kind == "histogram")
        assert theirs.name.startswith(load(name).prefix)
        for rule in theirs.rules:
            ours = families[rule.family]
            assert (ours.kind == "gauge") == (theirs.family.kind == "gauge")
            assert tuple(rule.labels) == theirs.family.labels
            known = {*ours.labels, *TOLD.get(rule.family, ())}
            assert {label.of for label in rule.labels.values() if label.of} | rule.where.keys() <= known, theirs.name


@pytest.mark.parametrize("name", ["celery-exporter", "celery-pools", "flower"])
def test_what_it_costs_is_known_before_a_task_runs(name: str) -> None:
    ledger = ledger_of(families := mapped(name))
    ledger.enqueued("q", "t")
    ledger.received("q", "t", "w@h")
    ledger.retried("q", "t", "w@h")
    for outcome in Outcome:
        ledger.finished("q", "t", outcome, "w@h")
    ledger.started("q", "t", "w@h")
    ledger.ran("q", "t", Outcome.SUCCEEDED, 1.0, "w@h")
    ledger.waited("q", 1.0, "t", "w@h")
    found = series(report(Snapshot(), mapped=families, ledger=ledger.freeze()))
    assert sum(growth(families).values()) == sum(key[0].startswith(load(name).prefix) for key in found)


def test_gauges_of_one_host_are_added_up_or_the_largest_taken() -> None:
    workers = [WorkerStats(name=f"w{i}@host", up=i == 1, tasks={"running": 2, "reserved": 5}) for i in (1, 2)]
    found = series(report(Snapshot(workers=workers), mapped=mapped("celery-exporter")))
    assert found[key("celery_worker_up", hostname="host")] == 1
    assert found[key("celery_worker_tasks_active", hostname="host")] == 4


def test_a_total_of_the_backend_is_never_a_sum() -> None:
    """Their label priority tells them apart; without it there is no number that never goes back."""
    queues = [QueueStats(name="q", enqueued={"high": 5, "low": 1})]
    families = mapped("django-tasks-redis")
    name = "django_tasks_enqueued_total"
    found = series(report(Snapshot(queues=queues), mapped=families))
    assert found[key(name, backend="default", queue="q", priority="high")] == 5
    coarse = [
        replace(
            f,
            rules=tuple(
                r.model_copy(update={"labels": {**r.labels, "priority": r.labels["backend"]}}) for r in f.rules
            ),
        )
        for f in families
        if f.name == name
    ]
    assert not [k for k in series(report(Snapshot(queues=queues), mapped=coarse)) if k[0] == name]


def test_states_become_their_words_for_each_queue_and_for_all() -> None:
    queues = [
        QueueStats(name=name, tasks={State.READY: 1, State.SCHEDULED: 2, State.RUNNING: 3, State.FAILED: 4})
        for name in ("a", "b")
    ]
    found = series(report(Snapshot(queues=queues), mapped=mapped("django-tasks-redis")))
    name = "django_tasks_queue_length"
    assert found[key(name, backend="default", queue="a", status="READY")] == 3
    assert found[key(name, backend="default", queue="all", status="READY")] == 6
    assert found[key(name, backend="default", queue="all", status="FAILED")] == 8
    assert found[key("django_tasks_running", backend="default", queue="b")] == 3


def test_what_expires_takes_nothing_from_what_goes_on() -> None:
    """Their counter has no label for the task: it goes on where one task is never seen again."""
    clock = Clock()
    ledger = ledger_of(mapped("django-tasks-redis"), clock, series_ttl=100)
    ledger.finished("q", "rare", Outcome.SUCCEEDED)
    ledger.finished("q", "often", Outcome.SUCCEEDED)
    for _ in range(5):
        ledger.freeze()
        clock.now += 60
        ledger.finished("q", "often", Outcome.SUCCEEDED)
    view = ledger.freeze()
    assert [labels[1] for labels, *_ in view.counters["taskq_tasks_finished_total"]] == ["often"]
    assert view.counters["django_tasks_completed_total"][0][:2] == (("default", "q"), 7)


def test_an_adapters_own_families_go_by_other_names_too() -> None:
    def family(name: str, *labels: str, **more: Any) -> Family:
        return Family(name=name, kind="histogram" if more else "counter", help="", labels=labels, **more)

    def theirs(of: Family, ours: str) -> MappedFamily:
        rule = Rule.model_validate({"family": ours, "labels": {"q": "queue"}})
        return MappedFamily(mapping="m", family=of, rules=(rule,), merge="sum", starts_at_zero=False)

    ours = [family("taskq_x_total", "queue", "kind"), family("taskq_x_seconds", "queue", buckets=(1.0,))]
    ledger = ledger_of(
        (theirs(family("y_total", "q"), "taskq_x_total"), theirs(family("y", "q", buckets=(5.0,)), "taskq_x_seconds")),
        own={of.name: of for of in ours},
    )
    for kind in ("a", "b"):
        ledger.count("taskq_x_total", ("q", kind), 2)
    ledger.observe("taskq_x_seconds", ("q",), 3.0)
    view = ledger.freeze()
    assert view.counters["y_total"][0][:2] == (("q",), 4)
    assert view.histograms["y"][0][:2] == (("q",), (1, 0))
    assert view.histograms["taskq_x_seconds"][0][1] == (0, 1)


def test_a_new_series_is_shown_at_zero_first() -> None:
    clock = Clock()
    ledger = ledger_of(families := mapped("celery-exporter"), clock)
    ledger.finished("q", "t", Outcome.FAILED, "w@h", exception="ValueError")
    ledger.ran("q", "t", Outcome.SUCCEEDED, 0.3, "w@h")
    labels = {"name": "t", "hostname": "h", "queue_name": "q"}
    for hold_back, value in ((0.0, 0), (clock.now + 1, 1)):
        found = series(report(Snapshot(), mapped=families, ledger=ledger.freeze(), hold_back=hold_back))

        def told(name: str, **more: str) -> float:
            return found[name, frozenset({**labels, **more}.items())]  # noqa: B023 - called at once

        assert told("celery_task_failed_total", exception="ValueError") == value
        assert told("celery_task_failed_total", exception="") == 0
        assert told("celery_task_retried_total") == 0
        assert told("celery_task_runtime_bucket", le="0.5") == value
        assert told("celery_task_runtime_bucket", le="0.25") == 0
        assert told("celery_task_runtime_sum") == 0.3 * value


def test_filters_and_caps_hold_for_them_too() -> None:
    families = mapped("celery-exporter")
    clock = Clock()
    names = Names({**CAPPED_LABELS, "task": 1}, {}, clock)
    ledger = MappedLedger(families, names, clock, queues=NameFilter(exclude=("hidden",)))
    for queue, task in (("hidden", "a"), ("q", "b"), ("q", "c"), ("q", "d")):
        ledger.received(queue, task, "w@h")
        ledger.waited(queue, 1.0, task, "w@h")
    view = ledger.freeze()
    for cells in (view.counters["celery_task_received_total"], view.histograms["celery_task_queue_wait_time"]):
        assert {cell[0] for cell in cells} == {("h", "b", "q"), ("h", "_other", "q")}


def test_a_checkpoint_keeps_what_still_has_its_shape(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    ledger = ledger_of(families := mapped("celery-exporter"))
    ledger.received("q", "t", "w@h")
    ledger.ran("q", "t", Outcome.SUCCEEDED, 1, "w@h")
    state.write("s", "f", Checkpoint(ledger.freeze(), {}))
    kept = state.read("s", "f")
    state.close()
    assert kept is not None
    same = ledger_of(families)
    same.restore(kept.ledger)
    assert same.freeze().counters["celery_task_received_total"][0][:2] == (("h", "t", "q"), 1)
    other = ledger_of(mapped("celery-exporter", labels={"env": "prod"}, buckets={"celery_task_runtime": (1.0,)}))
    other.restore(kept.ledger)
    assert "celery_task_received_total" not in other.freeze().counters
    assert "celery_task_runtime" not in other.freeze().histograms
    assert other.freeze().counters["taskq_tasks_received_total"][0][1] == 1


def test_a_page_can_be_asked_for_one_of_them() -> None:
    snapshot = Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 2})])
    asked = Selection(frozenset({"celery_queue_length"}))
    assert asked.counts()
    found = series(report(snapshot, mapped=mapped("celery-exporter")), selection=asked)
    assert found == {key("celery_queue_length", queue_name="q"): 2}


# --- the configuration


def configured(tmp_path: Path, *compat: Any, adapter: str = "celery") -> Any:
    url = "redis://h"
    sources = [{"name": f"s{i}", "adapter": adapter, "url": url, "compat": c} for i, c in enumerate(compat)]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"sources": sources}))
    return load_config(path, Adapters())


def test_how_the_other_exporter_was_set_up(tmp_path: Path) -> None:
    entry = {
        "mapping": "celery-exporter",
        "prefix": "jobs_",
        "labels": {"env": "prod"},
        "fixed": {"hostname": "generic"},
        "default": {"queue_name": "unknown"},
        "buckets": {"celery_task_runtime": [1, 10]},
    }
    families = {f.name: f for f in configured(tmp_path, [entry]).sources[0].mapped()}
    facts = {"task": "t", "worker": "w@h", "queue": ""}

    def read(name: str) -> dict[str, str]:
        family = families[name]
        return dict(zip(family.family.labels, family.rules[0].read(facts) or (), strict=True))

    assert read("jobs_task_received_total") == {
        "name": "t", "hostname": "generic", "queue_name": "unknown", "env": "prod"
    }  # fmt: skip
    assert read("jobs_worker_up") == {"hostname": "h", "env": "prod"}
    assert families["jobs_task_runtime"].buckets == (1.0, 10.0)
    assert not any(name.startswith("celery_") for name in families)


@pytest.mark.parametrize(
    ("compat", "words"),
    [
        ([["celery-exportr"]], "compat.0.mapping: unknown mapping 'celery-exportr'; did you mean 'celery-exporter'?"),
        ([["django-tasks-redis"]], "compat.0: django-tasks-redis is for sources of django_tasks_redis, not of celery"),
        ([["celery-exporter", "celery-pools"]], "compat.1: celery_task_received_total is two things: "),
        ([["celery-exporter"], ["celery-pools"]], "compat.0: celery_task_received_total is two things: "),
        ([[{"mapping": "flower", "buckets": {"flower_task_runtime_seconds": [2, 1]}}]], "each above the one before"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(compat: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as failed:
        configured(tmp_path, *compat)
    assert re.search(r"c\.yaml:\d+:\d+: ", str(failed.value))


def test_teams_share_a_page(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    source = {"name": "s", "adapter": "celery", "url": "redis://h", "compat": ["celery-exporter"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"sources_dir": "teams", "sources": [source]}))
    for name, compat in (("a", "celery-pools"), ("b", "celery-exporter")):
        team = {"sources": [{**source, "name": name, "compat": [compat]}]}
        (tmp_path / f"teams/{name}.yaml").write_text(yaml.safe_dump(team))
    read = load_config(tmp_path / "c.yaml", Adapters())
    assert [source.config.name for source in read.sources] == ["s", "b"]
    assert "compat.0: celery_task_received_total is two things: " in read.files[0].error


def test_one_of_them_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    source = {"name": "s", "adapter": "celery", "url": "redis://h", "compat": ["flower"]}
    path.write_text(yaml.safe_dump({"sources": [{**source, "disable": ["flower_worker_online"]}]}))
    (of,) = load_config(path, Adapters()).sources
    workers = [WorkerStats(name="w", up=True, tasks={"running": 1})]
    found = series(report(Snapshot(workers=workers), mapped=of.mapped(), disabled=of.config.disable))
    assert {name for name, _ in found if name.startswith("flower_")} == {
        "flower_worker_number_of_currently_executing_tasks"
    }


def test_mappings_that_agree_stand_beside_each_other(tmp_path: Path) -> None:
    other = {"mapping": "celery-pools", "prefix": "pools_"}
    (source,) = configured(tmp_path, ["celery-exporter", other, "flower"]).sources
    assert len(source.mapped()) == sum(
        len(load(name).families) for name in ("celery-exporter", "celery-pools", "flower")
    )
