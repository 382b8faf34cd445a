"""Rules and alerts fit together, and what an alert tells its reader."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
from told import AGE, DONE, OBJECTIVE, READY, known_families, promtool, queue, series, tool

from taskq_exporter import cli
from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.recording import records
from taskq_exporter.mixin.thresholds import Thresholds

ROOT = Path(__file__).parents[2]
HISTOGRAM = re.compile("_(bucket|sum|count)$")


def test_alerts_read_recorded_series_and_the_exporters_own() -> None:
    recorded = {record.name for record in records()}
    for alert in alerts(Thresholds()):
        read = set(re.findall(r"taskq[_:][a-z0-9_:]+", f"{alert.expression} {alert.top_task}"))
        assert {name for name in read if not name.startswith("taskq_exporter_")} <= recorded, alert.name


def test_records_read_families_of_the_schema_and_of_adapters() -> None:
    known = known_families()
    for record in records():
        for name in re.findall(r"taskq_[a-z0-9_]+", record.expression):
            assert HISTOGRAM.sub("", name) in known, record.name


def test_every_threshold_is_told_with_the_alerts_that_it_has_an_effect_on() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\w, ]+) \|", text, re.MULTILINE)
    assert {name: float(default) for name, default, _ in told} == dataclasses.asdict(Thresholds())
    for name, _, of in told:
        other = alerts(dataclasses.replace(Thresholds(), **{name: 0.123}))
        changed = [mine.name for mine, theirs in zip(alerts(Thresholds()), other, strict=True) if mine != theirs]
        assert changed == of.split(", ")


def test_promtool_finds_nothing_to_mend(tmp_path: Path) -> None:
    assert cli.main(["mixin", "--dir", str(tmp_path)]) == 0
    files = sorted(tmp_path.glob("*.yaml"))
    assert len(files) == 3
    check = [tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files]
    result = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_alert_says_whose_it_is_and_where_to_look(tmp_path: Path) -> None:
    said = {
        AGE: "0+60x60",
        queue("taskq_tasks_enqueued_total", task="send", priority=""): "0+60x60",
        queue("taskq_tasks_enqueued_total", task="rare", priority=""): "0+1x60",
    }
    labels = {"severity": "critical", "job": "taskq", "namespace": "prod", "source": "shop", "queue": "emails"}
    expected = {
        "exp_labels": {**labels, "team": "growth", "label_team": "growth"},
        "exp_annotations": {
            "summary": "Queue emails of shop is late",
            "description": "Its oldest ready task could have started 30m 0s ago. Task: send.",
            "dashboard_url": "https://grafana.example/d/taskq-queue"
            "?var-source=shop&var-queue=emails&var-job=taskq&var-namespace=prod",
            "runbook_url": "https://runbooks.example#taskqqueuetooold",
        },
    }
    looks = [{"eval_time": "30m", "alertname": "TaskqQueueTooOld", "exp_alerts": [expected]}]
    promtool(tmp_path, [{"interval": "1m", "input_series": series(said, 2), "alert_rule_test": looks}])


def test_two_exporters_that_disagree_on_a_team_break_no_alert(tmp_path: Path) -> None:
    """As while a new configuration is rolled out."""
    said = series({AGE: "0+60x60"}, 2)
    (at,) = [i for i, one in enumerate(said) if "growth" in one["series"] and "0.1" in one["series"]]
    said[at] = {**said[at], "series": said[at]["series"].replace("growth", "other")}
    infos = {
        f'taskq_source_info{{source="shop",adapter="celery",server="redis",server_version="{n}",{where}}}': "1x60"
        for n, where in ((7, 'job="taskq",namespace="prod",pod="a"'), (8, 'job="taskq",namespace="prod",pod="b"'))
    }
    said += [{"series": name, "values": values} for name, values in infos.items()]
    looks = [
        ('count(ALERTS{alertstate="firing"})', 1),
        ("count(taskq:source_annotations_info:max)", 1),
        ("count(taskq:source_info:max)", 1),
    ]
    tests = [{"expr": e, "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": n}]} for e, n in looks]
    promtool(tmp_path, [{"interval": "1m", "input_series": said, "promql_expr_test": tests}])


def test_one_source_name_in_two_namespaces_is_two_sources(tmp_path: Path) -> None:
    here = series({READY: "5x60"}, 2)
    there = [{**one, "series": one["series"].replace("prod", "staging")} for one in series({READY: "7x60"}, 1)]
    expression = {
        "expr": "sum by (namespace) (taskq:queue_ready:sum)",
        "eval_time": "5m",
        "exp_samples": [
            {"labels": '{namespace="prod"}', "value": 5},
            {"labels": '{namespace="staging"}', "value": 7},
        ],
    }
    promtool(tmp_path, [{"interval": "1m", "input_series": here + there, "promql_expr_test": [expression]}])


def test_the_counters_of_two_exporters_are_not_added_up(tmp_path: Path) -> None:
    both = series({DONE: "0+60x60"}, 2)
    both[-1] = {**both[-1], "values": "0+60x20 0+60x40"}  # one of them restarts
    expression = "taskq:queue_finished:rate5m"
    looks = [
        {
            "expr": f"round({expression}, 0.01)",
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": '{job="taskq",namespace="prod",source="shop",queue="emails"}', "value": 1}],
        }
        for minute in (10, 22, 40)
    ]
    promtool(tmp_path, [{"interval": "1m", "input_series": both, "promql_expr_test": looks}])


def test_late_starts_are_found_at_the_objectives_bound(tmp_path: Path) -> None:
    buckets = {"10.0": 30, "30.0": 45, "+Inf": 60}
    said = {queue("taskq_task_wait_duration_seconds_bucket", le=le): f"0+{n}x60" for le, n in buckets.items()}
    said[queue("taskq_task_wait_duration_seconds_count")] = "0+60x60"
    look = {
        "expr": "taskq:queue_late:ratio_rate5m",
        "eval_time": "30m",
        "exp_samples": [
            {
                "labels": 'taskq:queue_late:ratio_rate5m{job="taskq",namespace="prod",source="shop",queue="emails"}',
                "value": 0.25,
            }
        ],
    }
    promtool(tmp_path, [{"interval": "1m", "input_series": series(OBJECTIVE | said, 2), "promql_expr_test": [look]}])


def test_every_alert_has_a_runbook() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
    sections = re.findall(r"^## (Taskq\w+)$", text, re.MULTILINE)
    assert sections == [alert.name for alert in alerts(Thresholds())]
    for section in re.split(r"^## Taskq\w+$", text, flags=re.MULTILINE)[1:]:
        assert len(section.strip()) > 80


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    arguments = ["mixin", "--dir", str(tmp_path), "--set", "stuck_seconds=60", "--annotations=team,tier"]
    assert cli.main([*arguments, "--grafana-url=https://g", "--runbook-url=https://r"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "recording-rules.yaml",
        "alerts.yaml",
        "taskq-guide-rules.yaml",
        "dashboards",
    }
    text = (tmp_path / "alerts.yaml").read_text()
    assert "taskq:task_longest_run_seconds:max) > 60" in text
    assert "group_left (label_team, label_tier)" in text
    assert "https://g/d/taskq-queue?" in text
    assert cli.main(arguments[:3]) == 0
    assert "> 3600" in (tmp_path / "alerts.yaml").read_text()


@pytest.mark.parametrize(("given", "words"), [("nonsense=1", "unknown threshold"), ("stuck_seconds=much", "a number")])
def test_a_wrong_threshold_is_a_message(
    given: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mixin", "--dir", str(tmp_path), "--set", given]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
