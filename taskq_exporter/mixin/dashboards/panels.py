"""Panels and dashboards in Grafana's JSON model (schema version 39, Grafana 10.4 and newer), laid out row by row."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taskq_exporter.mixin.recording import gauge

__all__ = ["OF_QUEUE", "OF_SOURCE", "Dashboard", "Panel", "Query", "Row"]

#: Selectors of what the variables choose. A label that a Prometheus does not have matches ".*", too.
OF_SOURCE = 'cluster=~"$cluster",namespace=~"$namespace",job=~"$job",source=~"$source"'
OF_QUEUE = f'{OF_SOURCE},queue=~"$queue"'

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 10, "bargauge": 8}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel; in a table `legend` is the column, which may have a unit of its own."""

    expression: str
    legend: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel; `warn` and `bad` are where its value becomes yellow and red (below them where `bad` is the smaller)."""

    title: str
    description: str
    queries: Sequence[Query]
    kind: Literal["stat", "timeseries", "table", "bargauge"] = "timeseries"
    unit: str = "short"
    width: int = 8
    stacked: bool = False
    warn: float | None = None
    bad: float | None = None
    minimum: float | None = 0
    maximum: float | None = None
    #: Columns of a table that are labels, in order.
    columns: Sequence[str] = ()
    #: The dashboard to which a click leads, with the source and the queue that were clicked on.
    leads_to: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading; what only some sources have is collapsed, and asked for when it is opened."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard; `variables` are the labels that it lets choose, beside the datasource."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[str] = ("cluster", "namespace", "job", "source")

    def json(self) -> dict[str, Any]:
        """What Grafana imports."""
        return {
            "uid": self.uid,
            "title": f"taskq / {self.title}",
            "description": self.description,
            "tags": ["taskq-exporter"],
            "schemaVersion": 39,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "links": [_link()],
            "templating": {"list": [_datasource(), *map(self._variable, range(len(self.variables)))]},
            "annotations": {"list": [self._alerts()]},
            "panels": _laid_out(self.rows),
        }

    def _variable(self, i: int) -> dict[str, Any]:
        """A label, of what the variables before it leave."""
        name = self.variables[i]
        family = gauge("taskq_tasks" if name == "queue" else "taskq_source_up")
        before = ",".join(f'{other}=~"${other}"' for other in self.variables[:i])
        query = f"label_values({family}{{{before}}}, {name})"
        return {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }

    def _alerts(self) -> dict[str, Any]:
        """Alerts that fire for what is chosen; most of a queue's dashboard are of its whole source."""
        matchers = [f'{name}=~"${name}{"|" if name == "queue" else ""}"' for name in self.variables]
        of = ",".join(('alertname=~"Taskq.+"', 'alertstate="firing"', *matchers))
        return {
            "name": "Alerts",
            "datasource": DATASOURCE,
            "enable": True,
            "expr": f"max by (alertname, source, queue) (ALERTS{{{of}}})",
            "iconColor": "red",
            "titleFormat": "{{alertname}}",
            "textFormat": "{{source}} {{queue}}",
            "step": "60s",
        }


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Panels from left to right, a new line where the width is used up."""
    laid: list[dict[str, Any]] = []
    y, ids = 0, itertools.count(1)
    for row in rows:
        head = {"type": "row", "id": next(ids), "title": row.title, "collapsed": row.collapsed, "panels": []}
        laid.append({**head, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        inside = laid[-1]["panels"] if row.collapsed else laid
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": HEIGHTS[panel.kind]}
            inside.append({"id": next(ids), "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, max(height, HEIGHTS[panel.kind])
        y = laid[-1]["gridPos"]["y"] + 1 if row.collapsed else y + height
    return laid


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    ends = {"min": panel.minimum, "max": panel.maximum}
    defaults |= {end: value for end, value in ends.items() if value is not None}
    options: dict[str, Any]
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        fill = 30 if panel.stacked else 8
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "stacking": stacking}
        options = {
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    elif panel.kind == "bargauge":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    else:
        options = {"showHeader": True, "cellHeight": "sm"}
    found = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(i, query, panel, instant=instant) for i, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": options,
    }
    if panel.kind == "table":
        found["transformations"] = _columns(panel)
    elif panel.leads_to:
        defaults["links"] = _leads(panel)
    return found


def _target(i: int, query: Query, panel: Panel, *, instant: bool) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + i),
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """The units of a table's columns, and where its first ones lead to."""
    if panel.kind != "table":
        return []
    units = [(query.legend, "unit", query.unit) for query in panel.queries if query.unit]
    links = [(name, "links", _leads(panel)) for name in ("source", "queue") if panel.leads_to and name in panel.columns]
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": what, "value": value}]}
        for name, what, value in (*units, *links)
    ]


def _leads(panel: Panel) -> list[dict[str, Any]]:
    """To another dashboard, which keeps the rest of what is chosen."""
    named = panel.columns if panel.kind == "table" else re.findall(r"{{(\w+)}}", panel.queries[0].legend)
    clicked = "__data.fields" if panel.kind == "table" else "__field.labels"
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", "cluster", "namespace", "job")]
    chosen = [f"var-{name}=${{{clicked}.{name}:percentencode}}" for name in ("source", "queue") if name in named]
    url = "&".join((f"/d/{panel.leads_to}?${{__url_time_range}}", *kept, *chosen))
    return [{"title": panel.leads_to.replace("taskq-", "taskq / "), "url": url}]


def _columns(panel: Panel) -> list[dict[str, Any]]:
    """One line for each label set, a column for each query."""
    every = [f"Value #{chr(ord('A') + i)}" if len(panel.queries) > 1 else "Value" for i in range(len(panel.queries))]
    # a query without a legend is there for its labels
    names = {value: query.legend for value, query in zip(every, panel.queries, strict=True) if query.legend}
    shown = [*panel.columns, *names]
    order = {name: i for i, name in enumerate(shown)}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
        {"id": "organize", "options": {"indexByName": order, "renameByName": names}},
    ]


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn is not None and panel.bad is not None and panel.bad < panel.warn:
        steps = [
            {"color": "red", "value": None},
            {"color": "yellow", "value": panel.bad},
            {"color": "green", "value": panel.warn},
        ]
    else:
        steps += [{"color": "yellow", "value": panel.warn}] if panel.warn is not None else []
        steps += [{"color": "red", "value": panel.bad}] if panel.bad is not None else []
    return {"mode": "absolute", "steps": steps}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _link() -> dict[str, Any]:
    return {
        "title": "taskq",
        "type": "dashboards",
        "tags": ["taskq-exporter"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
    }
