"""The queries by which KEDA scales workers: never 0 by mistake, never doubled, always one element."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Series = dict[str, str]

READY, RUNNING = (
    'taskq_tasks{source="shop",queue="emails",state="ready"',
    ('taskq_tasks{source="shop",queue="emails",state="running"'),
)
AGE = 'taskq_oldest_task_age_seconds{source="shop",queue="emails",state="ready"'


def of_pod(pod: str, said: Series) -> list[dict[str, str]]:
    """What an exporter says, as a ServiceMonitor has it scraped."""
    labels = (
        f'job="taskq-exporter",namespace="prod",service="{pod}",pod="{pod}",instance="{pod}:9540",container="exporter"'
    )
    return [{"series": f"{name},{labels}}}", "values": values} for name, values in said.items()]


OTHERS = [
    {"series": 'taskq_tasks{source="shop",queue="reports",state="ready",pod="a"}', "values": "500x60"},
    {"series": 'taskq_tasks{source="shop",queue="emailsX",state="ready",pod="a"}', "values": "500x60"},
    {"series": 'taskq_tasks{source="shop",queue="emails",state="failed",pod="a"}', "values": "500x60"},
    {"series": 'taskq_tasks{source="other",queue="emails",state="ready",pod="a"}', "values": "500x60"},
]
#: What is scraped each minute, and what the queries say from minute 5 on: tasks, and tasks by how late they are.
SITUATIONS: dict[str, tuple[list[dict[str, str]], dict[int, tuple[float, float]]]] = {
    "all is well": (
        of_pod("a", {READY: "8x60", RUNNING: "4x60", AGE: "30x60"}),
        {5: (12, 6), 20: (12, 6)},
    ),
    "the broker is gone for five minutes": (
        of_pod("a", {READY: "8x10 stale _x4 20x40", RUNNING: "4x10 stale _x4 4x40", AGE: "30x10 stale _x4 360x40"}),
        {10: (12, 6), 12: (12, 6), 15: (12, 6), 20: (24, 144)},
    ),
    "the exporter restarts with no worker up": (
        # of a new pod only the waiting tasks are there
        of_pod("a", {READY: "8x10 stale", RUNNING: "0x10 stale", AGE: "30x10 stale"})
        + of_pod("b", {READY: "_x12 8x47", AGE: "_x12 60x47"}),
        {10: (8, 4), 11: (8, 4), 14: (8, 8), 30: (8, 8)},
    ),
    "there are two exporters": (
        of_pod("a", {READY: "8x60", RUNNING: "4x60", AGE: "30x60"})
        + of_pod("b", {READY: "8x60", RUNNING: "4x60", AGE: "30x60"}),
        {5: (12, 6), 20: (12, 6)},
    ),
    "nobody tells the age": (of_pod("a", {READY: "8x60"}), {20: (8, 0)}),
    "there is nothing to do": (of_pod("a", {READY: "0x60", RUNNING: "0x60", AGE: "0x60"}), {20: (0, 0)}),
}


@pytest.fixture
def scaled(helm4: Any, sets: dict[str, Any]) -> dict[str, Any]:
    (found,) = [d["spec"] for d in helm4.render(sets["keda"]) if d["kind"] == "ScaledObject"]
    return dict(found)


def test_the_queries_say_what_should_run(scaled: dict[str, Any], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["triggers"]}
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": OTHERS + series,
            "promql_expr_test": [
                {"expr": queries[which], "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": value}]}
                for minute, values in said.items()
                for which, value in zip(("tasks", "age"), values, strict=True)
            ],
        }
        for name, (series, said) in SITUATIONS.items()
    ]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    command = [promtool, "test", "rules", "test.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_answer_that_is_missing_is_none(scaled: dict[str, Any]) -> None:
    assert scaled["fallback"] == {"failureThreshold": 3, "replicas": 4}
    for trigger in scaled["triggers"]:
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert trigger["metadata"]["threshold"] == "4"
        assert trigger["metricType"] == "AverageValue", "KEDA falls back for no other before 2.18"


def test_pods_are_not_taken_from_under_their_tasks(scaled: dict[str, Any]) -> None:
    scale_down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert scale_down["stabilizationWindowSeconds"] == scaled["cooldownPeriod"] == 960


def test_what_is_documented_is_what_is_asked(scaled: dict[str, Any]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()
    (written,) = [part.removeprefix("promql\n") for part in page.split("```") if part.startswith("promql\n")]
    (asked,) = [t["metadata"]["query"] for t in scaled["triggers"] if t["name"] == "tasks"]
    assert "".join(written.split()) == "".join(asked.split())
