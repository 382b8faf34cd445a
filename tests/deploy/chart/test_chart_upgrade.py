"""`helm upgrade`: what Kubernetes never lets change stays as it is, whatever changes beside it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from effects import EFFECTS
from places import CHART, Values, looked_up, with_value

Document = dict[str, Any]
PAGE = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()
#: What the API server refuses to change, by kind.
FIXED = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName"),
}
#: The values that change one of these, by the file of the folder `ci` where they do.
CANNOT = {
    "everything": (
        *("nameOverride", "fullnameOverride", "namespaceOverride", "kind", "persistence.existingClaim"),
        *("persistence.enabled", "persistence.storageClass", "persistence.accessModes"),
    ),
    "shards": (
        *("nameOverride", "fullnameOverride", "namespaceOverride", "persistence.enabled", "persistence.size"),
        *("persistence.storageClass", "persistence.accessModes", "persistence.annotations"),
    ),
}
#: What makes values that do not go together.
NEVER = {"existingConfigSecret", "existingConfigMap", "web.existingSecret", "persistence.existingClaim"}


def fixed(documents: list[Document]) -> set[str]:
    """The objects that hold state, with what may not change of them."""
    return {
        json.dumps(
            [d["kind"], d["metadata"]["namespace"], d["metadata"]["name"], {f: d["spec"].get(f) for f in fields}]
        )
        for d in documents
        if (fields := FIXED.get(d["kind"]))
    }


@pytest.mark.parametrize("name", CANNOT)
def test_all_other_values_change_in_place(helm4: Any, sets: dict[str, Values], name: str) -> None:
    values = sets[name]
    for place, effect in EFFECTS.items():
        if place not in CANNOT[name] and place not in NEVER and not (place == "shards" and name == "everything"):
            values = with_value(values, place, effect.value)
    assert looked_up(values, "podLabels") == {"tier": "backend"}
    assert fixed(helm4.render(values)) == fixed(helm4.render(sets[name]))


@pytest.mark.parametrize("name", CANNOT)
def test_the_page_names_what_cannot_change(helm4: Any, sets: dict[str, Values], name: str) -> None:
    before = fixed(helm4.render(sets[name]))
    for place in CANNOT[name]:
        changed = with_value(sets[name], place, EFFECTS[place].value)
        assert not before <= fixed(helm4.render(changed)), place
        assert f"`{place}`" in PAGE.partition("## Upgrading")[2], place


def test_a_new_version_of_the_chart_changes_in_place(helm4: Any, sets: dict[str, Values], tmp_path: Path) -> None:
    newer = tmp_path / "taskq-exporter"
    shutil.copytree(CHART, newer)
    about = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*", r"\1: 7.8.9", about))
    for name in CANNOT:
        old, new = helm4.render(sets[name]), helm4.render(sets[name], newer)
        assert fixed(old) == fixed(new)
        assert new[0]["metadata"]["labels"]["helm.sh/chart"] == "taskq-exporter-7.8.9"


def test_names_and_selectors_are_those_of_the_first_version(helm4: Any, sets: dict[str, Values]) -> None:
    first = {"app.kubernetes.io/name": "taskq-exporter", "app.kubernetes.io/instance": "demo"}
    for name, kind in (("sources", "Deployment"), ("shards", "StatefulSet")):
        documents = helm4.render(sets[name])
        (owner,) = [d for d in documents if d["kind"] == kind]
        assert (owner["metadata"]["name"], owner["spec"]["selector"]) == ("demo-taskq-exporter", {"matchLabels": first})
    (claim,) = owner["spec"]["volumeClaimTemplates"]
    assert claim["metadata"] == {"name": "taskq-state", "labels": first}


def test_counters_outlive_the_release(helm4: Any, sets: dict[str, Values]) -> None:
    (claim,) = [d for d in helm4.render(sets["everything"]) if d["kind"] == "PersistentVolumeClaim"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    # somebody's own claim is never written, so it is never deleted
    assert not [d for d in helm4.render(sets["existing"]) if d["kind"] == "PersistentVolumeClaim"]


def test_values_of_the_first_version_are_refused_and_the_page_says_what_to_write(helm4: Any) -> None:
    source = {"name": "shop", "adapter": "celery", "url": "redis://redis"}
    monitor = {"enabled": True, "labels": {"a": "b"}, "interval": "30s", "scrapeTimeout": "9s"}
    said = helm4.refuses(
        {"config": {"sources": [source]}, "state": {"existingClaim": "counters"}, "serviceMonitor": monitor}
    )
    rows = PAGE.partition("### 0.1 to 0.2")[2]
    for key in ("sources", "state", "labels", "interval", "scrapeTimeout"):
        assert f"'{key}'" in said
        assert key in rows
    now = {"sources": [source], "persistence": {"enabled": True, "existingClaim": "counters"}}
    now |= {"serviceMonitor": {"enabled": True}, "monitoring": {k: v for k, v in monitor.items() if k != "enabled"}}
    documents = {d["kind"]: d for d in helm4.render(now)}
    (state, *_) = documents["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert state["persistentVolumeClaim"] == {"claimName": "counters"}
    (endpoint,) = documents["ServiceMonitor"]["spec"]["endpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "9s")
