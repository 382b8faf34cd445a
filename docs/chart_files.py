"""What the Helm chart carries of the mixin: rules with thresholds that values set, and dashboards."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import yaml

from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.rules import Site, alert_rules, recording_rules
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["chart_files"]


class _Named(float):
    """A threshold that is written as @name@, for the chart to replace."""

    name = ""

    def __format__(self, _: str) -> str:
        return f"@{self.name}@"


def _named(name: str) -> _Named:
    number = _Named()
    number.name = name
    return number


def chart_files() -> dict[str, str]:
    """The text of each file, by its path in the chart's folder `files`."""
    thresholds = Thresholds(**{field.name: _named(field.name) for field in dataclasses.fields(Thresholds)})
    alerts = alert_rules(thresholds, Site(grafana_url="@grafana_url@", runbook_url="@runbook_url@"))
    boards = {f"dashboards/{board.uid}.json": json.dumps(board.json(), indent=1) + "\n" for board in DASHBOARDS}
    return {"recording-rules.yaml": _yaml(recording_rules()), "alerts.yaml": _yaml(alerts), **boards}


def _yaml(content: Any) -> str:
    note = "# Generated from the mixin by `make docs`; do not edit.\n"
    return note + yaml.safe_dump(content, sort_keys=False, width=1000)
