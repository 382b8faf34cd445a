"""Dashboards are complete, refer to what is recorded, and do not overlap."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from told import promtool, queue, series, source

from taskq_exporter import cli
from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.dashboards.panels import Dashboard, Panel
from taskq_exporter.mixin.recording import GAUGES, RATES, gauge, rate, records
from taskq_exporter.mixin.thresholds import Thresholds
from taskq_exporter.testing.node import run_node

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
            assert variable in (*board.variables, "__rate_interval", "__range")
        for label in re.findall(r"{{(\w+)}}", query.legend):
            assert re.search(rf"\b{label}\b", query.expression.replace("{", " ")) or label in (
                "source",
                "queue",
                "instance",
            )
        assert query.legend or len(panel.queries) == 1
        assert query.legend or panel.kind in ("stat", "table")
    assert bool(panel.columns) == (panel.kind == "table")


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_panels_do_not_overlap(board: Dashboard) -> None:
    data = board.json()
    panels = [inner for panel in data["panels"] for inner in (panel, *panel.get("panels", ()))]
    for beside in (data["panels"], *(panel["panels"] for panel in data["panels"] if panel.get("panels"))):
        taken: dict[tuple[int, int], str] = {}
        for panel in beside:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_what_is_chosen_is_known_and_leads_somewhere(board: Dashboard) -> None:
    data = board.json()
    names = [variable["name"] for variable in data["templating"]["list"]]
    assert names == ["datasource", *board.variables]
    for i, variable in enumerate(data["templating"]["list"]):
        before = re.findall(r"\$(\w+)", str(variable.get("query", "")))
        assert before == names[1:i] if i else not before  # each is asked for among what those before it leave
    for expression in (data["annotations"]["list"][0]["expr"], json.dumps(data["links"])):
        assert set(re.findall(r"\$(\w+)", expression)) <= set(names)
    for url in re.findall(r'"url": "([^"]+)"', json.dumps(data)):
        path, _, query = url.partition("?")
        target = {other.uid: other for other in DASHBOARDS}[path.removeprefix("/d/")]
        kept = re.findall(r"\$\{(\w+):queryparam\}", query)
        assert set(kept) <= set(names)
        chosen = dict(re.findall(r"var-(\w+)=\$\{__(?:data\.fields|field\.labels)\.(\w+):percentencode\}", query))
        assert set(target.variables) - {*chosen, *kept} <= {"queue"}
        assert chosen
        assert all(name == of and name in target.variables for name, of in chosen.items())


def test_panels_of_what_few_queue_systems_tell(tmp_path: Path) -> None:
    """The others are asked of real ones."""
    said = {queue("taskq_queue_paused"): "1x9", source("taskq_broker_slow_statement_seconds"): "1x9"}
    panels = {panel.title: panel for board in DASHBOARDS for row in board.rows for panel in row.panels}
    told = [
        {"expr": f"count({query})", "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for title in ("Paused", "Slowest statements")
        for query in (re.sub(r"\$\w+", ".*", query.expression) for query in panels[title].queries)
    ]
    promtool(tmp_path, [{"interval": "1m", "input_series": series(said, 2), "promql_expr_test": told}])


@pytest.mark.full
def test_grafanas_own_types_know_all_that_is_written(tmp_path: Path) -> None:
    """Those of the oldest version that is meant, and of newer ones."""
    check = partial(run_node, Path(__file__).parent / "grafana", "check.mjs")
    assert cli.main(["mixin", "--dir", str(tmp_path)]) == 0
    assert check(str(tmp_path / "dashboards")) == ""
    for path in (tmp_path / "dashboards").iterdir():
        path.write_text(path.read_text().replace('"displayMode": "table"', '"displayMode": "tabel"'))
    said = check(str(tmp_path / "dashboards"))
    assert set(re.findall(r"^(grafana\d+): taskq-\w+.json", said, re.MULTILINE)) == {
        "grafana10",
        "grafana12",
        "grafana13",
    }


def test_the_numbers_and_names_of_dashboards_are_unique() -> None:
    assert len({board.uid for board in DASHBOARDS}) == len({board.title for board in DASHBOARDS}) == len(DASHBOARDS)


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
