"""Dashboards are complete, refer to what is recorded, and do not overlap."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from taskq_exporter import cli
from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.dashboards.panels import Dashboard, Panel
from taskq_exporter.mixin.recording import GAUGES, RATES, gauge, rate, records
from taskq_exporter.mixin.thresholds import Thresholds

NAMES = {record.name for record in records()}
PANELS = [
    pytest.param(board, panel, id=f"{board.uid}-{panel.title}")
    for board in DASHBOARDS
    for row in board.rows
    for panel in row.panels
]


def test_every_record_is_shown_or_alerted() -> None:
    boards = json.dumps([board.json() for board in DASHBOARDS])
    rules = " ".join(record.expression for record in records())
    alerting = " ".join(alert.expression for alert in alerts(Thresholds()))
    recorded = [gauge(family) for family in GAUGES]
    recorded += [rate(counter, window) for counter, windows in RATES.items() for window in windows]
    unused = [name for name in recorded if name not in boards + alerting + rules]
    assert unused == []


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_shows(board: Dashboard, panel: Panel) -> None:
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.queries
    for query in panel.queries:
        read = set(re.findall(r"taskq[_:][a-z0-9_:]+", query.expression))
        assert {name for name in read if not name.startswith("taskq_exporter_")} <= NAMES
        for variable in re.findall(r"\$(\w+)", query.expression):
            assert variable in (*board.variables, "__rate_interval")
        for label in re.findall(r"{{(\w+)}}", query.legend):
            assert re.search(rf"\b{label}\b", query.expression.replace("{", " ")) or label in (
                "source",
                "queue",
                "instance",
            )
    if panel.kind == "table":
        assert panel.columns


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_panels_do_not_overlap(board: Dashboard) -> None:
    data = board.json()
    taken: dict[tuple[int, int], str] = {}
    for panel in data["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in data["panels"]}) == len(data["panels"])


def test_alerts_link_to_dashboards_that_exist() -> None:
    assert {f"taskq-{alert.dashboard}" for alert in alerts(Thresholds())} <= {board.uid for board in DASHBOARDS}


def test_the_command_writes_what_grafana_reads(tmp_path: Path) -> None:
    assert cli.main(["mixin", "--dir", str(tmp_path)]) == 0
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "dashboards").iterdir()}
    assert written == {board.uid: board.json() for board in DASHBOARDS}
    for board in written.values():
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in datasources(board))


def datasources(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [value["datasource"]] if "datasource" in value else []
        return own + [found for inner in value.values() for found in datasources(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in datasources(inner)]
    return []
