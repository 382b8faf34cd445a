"""Every value has an effect, and what is no value is refused."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "taskq-exporter"
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
Values = dict[str, Any]

#: What is told of a value, where "another of its type" will not do.
OTHERWISE: Values = {
    "sources": [{"name": "mails", "adapter": "celery", "url": "redis://mails"}],
    "config.state.dir": "/data",
    "configKind": "ConfigMap",
    "existingSecrets": ["other"],
    "env": [{"name": "A", "value": "b"}],
    "envFrom": [{"configMapRef": {"name": "other"}}],
    "kind": "StatefulSet",
    "persistence.accessModes": ["ReadWriteMany"],
    "persistence.annotations": {"x": "y"},
    "imagePullSecrets": [{"name": "other"}],
    "image.pullPolicy": "Always",
    "log.level": "warn",
    "log.format": "logfmt",
    "extraArgs": ["--log.level=info"],
    "web.config": {"rate_limit": {"interval": "1s", "burst": 9}},
    "web.telemetryPath": "/other",
    "service.type": "NodePort",
    "service.annotations": {"x": "y"},
    "service.labels": {"x": "y"},
    "serviceAccount.annotations": {"x": "y"},
    "monitoring.labels": {"x": "y"},
    "monitoring.annotations": {"x": "y"},
    "monitoring.interval": "1m",
    "monitoring.scrapeTimeout": "5s",
    "monitoring.relabelings": [{"action": "labeldrop", "regex": "node"}],
    "monitoring.metricRelabelings": [{"action": "labeldrop", "regex": "node"}],
    "monitoring.tlsConfig": {"insecureSkipVerify": True},
    "monitoring.basicAuth": {"username": {"name": "login", "key": "username"}},
    "probe.targets": ["redis://other"],
    "prometheusRule.disabled": [],
    "prometheusRule.overrides": {"TaskqTaskStuck": {"for": "1h"}},
    "prometheusRule.extraGroups": [{"name": "other"}],
    "dashboards.configMaps.annotations": {"x": "y"},
    "dashboards.grafanaOperator.resyncPeriod": "1m",
    "keda.authenticationRef": {"name": "other"},
    "keda.labels": {"x": "y"},
    "keda.scaledObjects": [],
    "networkPolicy.from": [],
    "networkPolicy.egress": [],
    "podDisruptionBudget.maxUnavailable": 0,
    "podSecurityContext.fsGroupChangePolicy": "Always",
    "podSecurityContext.seccompProfile.type": "Unconfined",
    "securityContext.capabilities.drop": ["NET_RAW"],
    "sidecar.podLabels": {"app": "other"},
    "nodeSelector": {"x": "y"},
    "tolerations": [],
    "affinity": {"podAffinity": {}},
    "topologySpreadConstraints": [],
    "hostAliases": [],
    "dnsConfig": {"nameservers": ["10.0.0.2"]},
    "podAnnotations": {"x": "y"},
    "podLabels": {"x": "y"},
    "annotations": {"x": "y"},
    "commonLabels": {"x": "y"},
    "extraVolumes": [],
    "extraVolumeMounts": [],
    "initContainers": [],
    "extraContainers": [],
    "extraManifests": [],
    "tests.env": [{"name": "A", "value": "b"}],
}
#: What has no effect beside everything else, by the values beside which it has.
BESIDE: dict[str, str] = {
    "shards": "shards",
    "sidecar.podLabels": "sidecar",
    "existingConfigMap": "existing",
    "livenessProbe": "sources",
}


def leaves(values: Values, at: str = "") -> Iterator[str]:
    for name, value in values.items():
        place = f"{at}{name}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}.")
        else:
            yield place


def looked_up(values: Values, place: str) -> Any:
    for name in place.split("."):
        values = values.get(name, {}) if isinstance(values, dict) else {}
    return values


def with_value(values: Values, place: str, value: Any) -> Values:
    changed = where = copy.deepcopy(values)
    *folders, name = place.split(".")
    for folder in folders:
        where = where.setdefault(folder, {})
    where[name] = value
    return changed


def another(place: str, now: Any) -> Any:
    if place in OTHERWISE:
        return OTHERWISE[place]
    assert isinstance(now, bool | int | float | str), f"{place}: OTHERWISE should say what else it may be"
    return not now if isinstance(now, bool) else now + 1 if isinstance(now, int | float) else f"other{now}".lower()


@pytest.fixture(scope="module")
def rendered(helm4: Any, sets: dict[str, Values]) -> Any:
    return cache(lambda name: helm4.render(sets[name]))


@pytest.mark.parametrize("place", [*leaves(DEFAULTS)])
def test_has_an_effect(helm4: Any, sets: dict[str, Values], validator: Any, rendered: Any, place: str) -> None:
    beside = BESIDE.get(place) or BESIDE.get(place.split(".")[0]) or "everything"
    values = sets[beside]
    now = looked_up(values, place)
    if now == {} and looked_up(DEFAULTS, place) != {}:
        now = looked_up(DEFAULTS, place)
    documents = helm4.render(with_value(values, place, another(place, now)))
    assert documents != rendered(beside), f"{place} does nothing"
    assert validator.mistakes(documents) == []


def test_every_part_of_a_scaled_object_has_an_effect(helm4: Any, sets: dict[str, Values], rendered: Any) -> None:
    (given,) = sets["keda"]["keda"]["scaledObjects"]
    commented = re.findall(r"^  #   (\w+):|^  # - (\w+): emails", (CHART / "values.yaml").read_text(), re.MULTILINE)
    names = {a or b for a, b in commented}
    assert {*given} <= names
    more = {"kind": "StatefulSet", "minReplicas": 0, "queues": ["other"]}
    for name in names:
        changed = {**given, name: more.get(name) if name in more else another(name, given[name])}
        assert helm4.render(with_value(sets["keda"], "keda.scaledObjects", [changed])) != rendered("keda"), name


@pytest.mark.parametrize("place", sorted({"", *(leaf.rpartition(".")[0] for leaf in leaves(DEFAULTS))}))
def test_a_misspelt_value_is_refused(helm4: Any, place: str) -> None:
    open_ones = "resources|podSecurityContext|securityContext|livenessProbe|readinessProbe|global"
    if re.match(rf"({open_ones}|dashboards\.\w+\.(labels|instanceSelector))(\.|$)", place):
        pytest.skip("what Kubernetes takes there is its matter")
    assert "misspelt" in helm4.refuses(with_value({}, f"{place}.misspelt".lstrip("."), 1))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("kind", "DaemonSet"),
        ("shards", 0),
        ("configKind", "File"),
        ("fullnameOverride", "'"),
        ("service.port", 70000),
        ("log.level", "loud"),
        ("existingSecrets", ["A b"]),
        ("prometheusRule.thresholds.oldest_age_seconds", "5m"),
        ("keda.scaledObjects", [{"name": "w"}]),
        ("config.sources", []),
        ("state", {"existingClaim": "counters"}),
        ("serviceMonitor.labels", {}),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Any, place: str, value: Any) -> None:
    assert re.search(re.escape(place.rpartition(".")[2]), helm.refuses(with_value({}, place, value)))


def test_thresholds_are_those_of_the_alerts() -> None:
    text = (CHART / "files" / "alerts.yaml").read_text()
    named = {*re.findall(r"@(\w+)@", text)} - {"grafana_url", "runbook_url"}
    assert named == {*DEFAULTS["prometheusRule"]["thresholds"]}
