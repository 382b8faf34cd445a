"""What Prometheus is told of a source in these tests, and promtool."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskq_exporter.adapters import Adapters
from taskq_exporter.mixin.rules import Site, alert_rules, recording_rules
from taskq_exporter.mixin.thresholds import Thresholds
from taskq_exporter.schema import FAMILIES

SITE = Site(grafana_url="https://grafana.example", runbook_url="https://runbooks.example")

#: What a well source says of itself, and an exporter.
WELL = {
    "taskq_exporter_build_info{}": "1x400",
    'taskq_source_up{source="shop"}': "1x400",
    'taskq_source_annotations_info{source="shop",label_team="growth"}': "1x400",
}


def tool(name: str, package: str = "prometheus") -> str:
    """A program's path. Skips the test where it is not installed, and fails it there in CI."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed (Debian: apt install {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def known_families() -> set[str]:
    """Of the schema, and of every adapter that is installed."""
    adapters = Adapters()
    return {*FAMILIES, *(family for name in adapters.names for family in adapters.get(name).families)}


def queue(family: str, **labels: str) -> str:
    told = {"source": "shop", "queue": "emails", **labels}
    return f"{family}{{{','.join(f'{k}={v!r}' for k, v in told.items())}}}".replace("'", '"')


def source(family: str, **labels: str) -> str:
    return queue(family, queue="", **labels).replace('queue="",', "").replace(',queue=""', "")


READY = queue("taskq_tasks", state="ready")
RUNNING = queue("taskq_tasks", state="running")
AGE = queue("taskq_oldest_task_age_seconds", state="ready")
DONE = queue("taskq_tasks_finished_total", task="send", outcome="succeeded")
BAD = queue("taskq_tasks_finished_total", task="send", outcome="failed")
OBJECTIVE = {
    queue("taskq_queue_objective_wait_seconds"): "30x400",
    queue("taskq_queue_objective_ratio"): "0.99x400",
}


def waits(late: float, since: int = 0, n: int = 60) -> dict[str, str]:
    """Each minute n tasks start, of which from a minute on a part starts later than 30 seconds."""

    def steps(before: float, after: float) -> str:
        return f"0+{before:g}x{since} {before * since + after:g}+{after:g}x400"

    return {
        queue("taskq_task_wait_duration_seconds_bucket", le="10.0"): steps(n / 2, n * (1 - late) / 2),
        queue("taskq_task_wait_duration_seconds_bucket", le="30.0"): steps(n, n * (1 - late)),
        queue("taskq_task_wait_duration_seconds_bucket", le="+Inf"): steps(n, n),
        queue("taskq_task_wait_duration_seconds_count"): steps(n, n),
    }


def series(said: dict[str, str], exporters: int, source: str = "shop") -> list[dict[str, str]]:
    """The input series, from each exporter, with the labels that Prometheus adds; `source` is its name instead."""
    found = []
    for text, values in (WELL | said).items():
        name, labels = text[:-1].replace('source="shop"', f'source="{source}"').split("{", 1)
        for i in range(exporters):
            of_target = f'job="taskq",namespace="prod",instance="10.0.0.{i}:9540",pod="exporter-{i}"'
            found.append({"series": f"{name}{{{labels}{',' if labels else ''}{of_target}}}", "values": values})
    return found


def sources(said: dict[str, dict[str, str]], exporters: int) -> list[dict[str, str]]:
    """The input series of several sources by their names; what the exporters say of themselves is said once."""
    found = [one for name, told in said.items() for one in series(told, exporters, name)]
    return list({one["series"]: one for one in found}.values())


def promtool(tmp_path: Path, tests: list[dict[str, Any]], *more: str, fails: bool = False) -> str:
    """Run tests of the rules, which fail or not; `more` are further files of rules in the folder. Says what is told."""
    program = tool("promtool")
    for name, rules in (("records", recording_rules()), ("alerts", alert_rules(Thresholds(), SITE))):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(rules, sort_keys=False))
    file = {
        "rule_files": ["records.yaml", "alerts.yaml", *more],
        "evaluation_interval": "1m",
        "group_eval_order": ["taskq-records", "taskq-alerts"],
        "tests": tests,
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    command = [program, "test", "rules", "test.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (result.returncode != 0) == fails, result.stdout + result.stderr
    return result.stdout + result.stderr
