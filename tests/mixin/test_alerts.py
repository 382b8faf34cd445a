"""Each alert fires when it should, once, with one exporter and with two; and stays silent when it should."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from told import AGE, BAD, DONE, OBJECTIVE, READY, RUNNING, SITE, promtool, queue, source, sources, waits

from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.thresholds import Thresholds

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"

#: What is said beside WELL, at which minute it is looked, and what fires then.
FIRES: dict[str, tuple[dict[str, str], int]] = {
    "TaskqQueueTooOld": ({AGE: "0+60x400"}, 30),
    "TaskqBacklogGrowing": ({READY: "0+50x400", RUNNING: "4x400", DONE: "0+600x400"}, 35),
    "TaskqBacklogTooLong": ({READY: "9000x400", RUNNING: "4x400", DONE: "0+60x400"}, 60),
    "TaskqQueueNoConsumers": ({READY: "1x400", queue("taskq_queue_consumers"): "0x400"}, 30),
    "TaskqQueueStalled": ({READY: "7x400", RUNNING: "0x400", DONE: "1000x400"}, 60),
    "TaskqObjectiveBurnsFast": (OBJECTIVE | waits(1.0, since=60), 74),
    "TaskqObjectiveBurnsSlowly": (OBJECTIVE | waits(0.08), 90),
    "TaskqFailureRatio": ({DONE: "0+60x400", BAD: "0+6x400"}, 40),
    "TaskqRetryStorm": ({DONE: "0+60x400", queue("taskq_tasks_retried_total", task="send"): "0+60x400"}, 40),
    "TaskqTaskStuck": ({queue("taskq_task_longest_run_seconds", task="send"): "0+60x400"}, 70),
    "TaskqTasksLost": ({queue("taskq_tasks_finished_total", task="send", outcome="lost"): "0x20 1x380"}, 22),
    "TaskqDeadLettersGrowing": ({queue("taskq_tasks", state="dead"): "5x20 6x380"}, 25),
    "TaskqNoWorkers": ({READY: "1x400", RUNNING: "1x400", source("taskq_workers", state="idle"): "0x400"}, 30),
    "TaskqWorkersGone": ({source("taskq_workers", state="busy"): "8x20 3x380"}, 40),
    "TaskqWorkerDown": ({source("taskq_worker_up", worker="w1"): "1x20 0x380"}, 40),
    "TaskqWorkersSilent": ({source("taskq_workers", state="silent"): "1x400"}, 30),
    "TaskqSchedulerDown": ({source("taskq_scheduler_up", scheduler="beat"): "0x400"}, 30),
    "TaskqScheduleOverdue": (
        {source("taskq_schedule_next_run_timestamp_seconds", scheduler="beat", entry="night"): "600x400"},
        30,
    ),
    "TaskqSourceDown": ({source("taskq_source_up"): "1x10 0x390"}, 30),
    "TaskqFollowerDown": ({source("taskq_source_follower_up"): "0x400"}, 30),
    "TaskqFollowerLate": ({source("taskq_source_follower_lag_seconds"): "0+60x400"}, 30),
    "TaskqEventsDropped": ({source("taskq_source_events_dropped_total", reason="missed"): "0x10 9x390"}, 18),
    "TaskqCountsCapped": ({queue("taskq_tasks_capped", state="ready"): "1x400"}, 40),
    "TaskqLabelsOverflow": ({source("taskq_source_label_overflow_total", label="queue"): "0+3x400"}, 40),
    "TaskqBrokerMemory": (
        {source("taskq_broker_memory_bytes"): "95x400", source("taskq_broker_memory_limit_bytes"): "100x400"},
        30,
    ),
    "TaskqBrokerConnections": (
        {
            source("taskq_broker_connections", state="connected"): "50x400",
            source("taskq_broker_connections", state="blocked"): "45x400",
            source("taskq_broker_connections_limit"): "100x400",
        },
        30,
    ),
    "TaskqExporterDown": ({"taskq_exporter_build_info{}": "1x10 stale"}, 30),
    "TaskqReloadFailed": ({"taskq_exporter_config_last_reload_successful{}": "0x400"}, 30),
    "TaskqCheckpointFailed": ({"taskq_exporter_checkpoint_last_write_successful{}": "0x400"}, 30),
}
#: What looks like trouble and is none.
SILENT: dict[str, tuple[dict[str, str], int]] = {
    "idle": (
        {READY: "0x400", RUNNING: "0x400", AGE: "0x400", DONE: "5x400", queue("taskq_queue_consumers"): "0x400"},
        60,
    ),
    "busy": ({READY: "50x400", RUNNING: "4x400", AGE: "20x400", DONE: "0+600x400", BAD: "0+6x400"}, 60),
    "a queue that fills and empties": ({READY: "0+40x10 400-40x10 " * 8, RUNNING: "4x400", DONE: "0+400x400"}, 90),
    "old, as its objective allows": (
        {AGE: "900x400", queue("taskq_queue_objective_wait_seconds"): "3600x400"},
        60,
    ),
    "nothing runs, and ends are not counted": ({READY: "7x400", RUNNING: "0x400"}, 60),
    "long tasks hold every slot": ({READY: "7x400", RUNNING: "4x400", DONE: "9x400"}, 60),
    "ends are counted without a queue": (
        {
            READY: "7x400",
            RUNNING: "0x400",
            queue("taskq_tasks_finished_total", queue="", task="x", outcome="succeeded"): "0+9x400",
        },
        60,
    ),
    "late now and then": (OBJECTIVE | waits(0.02), 90),
    "two failures at night": ({DONE: "0x400", BAD: "0x20 2x380"}, 24),
    "a pile that somebody empties": ({queue("taskq_tasks", state="dead"): "9x20 4x380"}, 25),
    "scaled down by a third": ({source("taskq_workers", state="busy"): "9x20 6x380"}, 40),
    "no workers, and nothing to do": ({READY: "0x400", source("taskq_workers", state="idle"): "0x400"}, 30),
    "a source without a follower or limits": ({source("taskq_broker_memory_bytes"): "95x400"}, 30),
    "an exporter restarts": ({DONE: "0+60x30 0+60x360", BAD: "0+1x30 0+1x360"}, 40),
}


#: Said of the exporter: a world of its own each.
OF_EXPORTER = ("TaskqExporterDown", "TaskqReloadFailed", "TaskqCheckpointFailed")


def world(cases: dict[str, tuple[dict[str, str], int]], exporters: int) -> dict[str, Any]:
    """Each case is a source of its own, named as it; an alert's name fires then, and nothing else does of it."""
    looks = []
    for name, (_, minute) in cases.items():
        of = "" if name in OF_EXPORTER else f',source="{name}"'
        firing = f'count by (alertname) (ALERTS{{alertstate="firing"{of}}})'
        samples = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name in FIRES else []
        if name in OF_EXPORTER:
            firing = f"sgn({firing})"  # of each exporter
        looks.append({"expr": firing, "eval_time": f"{minute}m", "exp_samples": samples})
    told = sources({name: said for name, (said, _) in cases.items()}, exporters)
    return {"name": ", ".join(cases), "interval": "1m", "input_series": told, "promql_expr_test": looks}


def worlds(cases: dict[str, tuple[dict[str, str], int]], exporters: int) -> list[dict[str, Any]]:
    of_sources = {name: case for name, case in cases.items() if name not in OF_EXPORTER}
    alone = [{name: case} for name, case in cases.items() if name in OF_EXPORTER]
    return [world(some, exporters) for some in (of_sources, *alone)]


#: Two are the harder case; that each fires with one alone is seen where its text is.
EXPORTERS = [pytest.param(1, marks=pytest.mark.full), 2]


@pytest.mark.parametrize("exporters", EXPORTERS)
def test_each_alert_fires_alone(exporters: int, tmp_path: Path) -> None:
    promtool(tmp_path, worlds(FIRES, exporters))


@pytest.mark.parametrize("exporters", EXPORTERS)
def test_none_fires_where_nothing_is_wrong(exporters: int, tmp_path: Path) -> None:
    promtool(tmp_path, worlds(SILENT, exporters))


def test_what_each_alert_says_is_complete(tmp_path: Path) -> None:
    """As Prometheus renders it, which promtool tells where it expects nothing."""
    tests = worlds(FIRES, 1)
    for one in tests:
        del one["promql_expr_test"]
        names = one["name"].split(", ")
        looks = [{"eval_time": f"{FIRES[name][1]}m", "alertname": name, "exp_alerts": []} for name in names]
        one["alert_rule_test"] = looks
    told = promtool(tmp_path, tests, fails=True)
    anchors = {f"#{name.lower()}" for name in re.findall(r"^## (\w+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE)}
    found = {}
    for text in re.findall(r"Labels:\{(.*)\}\n\s*Annotations:\{(.*)\}", told):
        labels, annotations = (
            {key: json.loads(f'"{value}"') for key, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', part)}
            for part in text
        )
        found[labels["alertname"]] = labels, annotations
    assert found.keys() == FIRES.keys()
    for name, (labels, annotations) in found.items():
        assert annotations.keys() == {"summary", "description", "dashboard_url", "runbook_url"}
        for text in annotations.values():
            assert not re.search(r"[{}<>]|%!|error", text), (name, text)  # what a template that fails leaves
        assert annotations["runbook_url"].removeprefix(SITE.runbook_url) in anchors
        url = urlsplit(annotations["dashboard_url"])
        assert url.path.removeprefix("/d/") in {board.uid for board in DASHBOARDS}
        if name not in OF_EXPORTER:
            assert labels["team"] == "growth"
            assert labels["source"] in annotations["summary"]
            chosen = {key: labels[key] for key in ("source", "queue", "job", "namespace") if key in labels}
            assert dict(parse_qsl(url.query)) == {f"var-{key}": value for key, value in chosen.items()}
        if any('task="send"' in series for series in FIRES[name][0]):
            assert annotations["description"].endswith(" Task: send."), name
    assert "they need 2m 55s" in found["TaskqBacklogGrowing"][1]["description"]


def test_every_alert_has_a_test() -> None:
    assert [alert.name for alert in alerts(Thresholds())] == list(FIRES)
