"""Recording rules and alerts as the files that Prometheus loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskq_exporter.mixin.alert import Alert, asked
from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.recording import ID, gauge, records
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["Site", "alert_rules", "recording_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What differs from one place to another."""

    #: Where Grafana and the runbooks are, for the links of alerts.
    grafana_url: str = ""
    runbook_url: str = ""
    #: Annotations of sources that become labels of their alerts, so that Alertmanager can route them.
    annotations: tuple[str, ...] = ("team",)


def recording_rules() -> dict[str, Any]:
    """The file of recording rules."""
    rules = [{"record": record.name, "expr": record.expression} for record in records()]
    return {"groups": [{"name": "taskq-records", "rules": rules}]}


def alert_rules(thresholds: Thresholds, site: Site) -> dict[str, Any]:
    """The file of alerts, which needs that of recording rules."""
    return {"groups": [{"name": "taskq-alerts", "rules": [_rule(alert, site) for alert in alerts(thresholds)]}]}


def _rule(alert: Alert, site: Site) -> dict[str, Any]:
    labels: dict[str, str] = {"severity": alert.severity}
    expression = alert.expression
    description = alert.description
    if alert.of_source:
        info = gauge("taskq_source_annotations_info")
        carried = ", ".join(f"label_{name}" for name in site.annotations)
        expression = f"({expression}) * on ({ID}) group_left ({carried}) {info}"
        labels |= {name: f"{{{{ $labels.label_{name} }}}}" for name in site.annotations}
    if alert.top_task:
        description += asked(alert.top_task, ' Task: {{ . | first | label "task" }}.')
    rule: dict[str, Any] = {"alert": alert.name, "expr": expression}
    if alert.wait != "0s":
        rule["for"] = alert.wait
    annotations = {"summary": alert.summary, "description": description}
    annotations["dashboard_url"] = f"{site.grafana_url}/d/taskq-{alert.dashboard}{_chosen(alert)}"
    annotations["runbook_url"] = f"{site.runbook_url}#{alert.name.lower()}"
    return {**rule, "labels": labels, "annotations": annotations}


def _chosen(alert: Alert) -> str:
    """What the dashboard shows, for its URL: what the alert is of, as far as its labels say it."""
    if not alert.of_source:
        return ""
    others = ("queue", "job", "namespace", "cluster")
    more = "".join(f"{{{{ with $labels.{name} }}}}&var-{name}={{{{ urlquery . }}}}{{{{ end }}}}" for name in others)
    return f"?var-source={{{{ urlquery $labels.source }}}}{more}"
