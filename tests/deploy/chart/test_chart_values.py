"""Every value has the effect that is expected of it, and no other; what is no value is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from effects import EFFECTS
from places import CHART, DEFAULTS, Values, leaves, looked_up, with_value

Documents = list[dict[str, Any]]
#: Where any key goes: what Kubernetes takes there is its matter.
OPEN = re.compile(
    r"(resources|podSecurityContext|securityContext|livenessProbe|readinessProbe|startupProbe|global"
    r"|dashboards\.\w+\.(labels|instanceSelector))(\.|$)"
)


def changes(before: Documents, after: Documents) -> Iterator[tuple[str, Any]]:
    """KIND of an object that came or went, KIND PATH of what changed inside one; and what is there now."""
    old, new = ({(d["kind"], d["metadata"]["name"]): d for d in documents} for documents in (before, after))
    for key in old.keys() | new.keys():
        if key in old and key in new:
            yield from _changes(old[key], new[key], f"{key[0]} ")
        else:
            yield key[0], new.get(key)


def _changes(old: Any, new: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = {name: (old.get(name), new.get(name)) for name in old | new}
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = dict(enumerate(zip(old, new, strict=True)))
    else:
        if old != new:
            yield at.removesuffix("."), new
        return
    for name, (one, other) in pairs.items():
        yield from _changes(one, other, f"{at}{name}.")


def texts(value: Any) -> Iterator[str]:
    """What of a value should be found again."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)
    elif not isinstance(value, bool):
        yield str(value).replace("{{ .Release.Name }}", "demo")


@pytest.fixture(scope="module")
def base(helm4: Any, sets: dict[str, Values]) -> Any:
    """Values of a file of the folder `ci` and what they render; dashboards, which are long, only where asked for."""

    @cache
    def rendered(name: str, dashboards: bool) -> tuple[Values, Documents]:
        values = {key: value for key, value in sets[name].items() if key != "dashboards" or dashboards}
        return values, helm4.render(values)

    return rendered


def test_every_value_is_in_the_table() -> None:
    assert [*leaves(DEFAULTS)] == sorted(EFFECTS, key=[*leaves(DEFAULTS)].index)


@pytest.mark.parametrize("place", EFFECTS)
def test_a_value_changes_what_it_should_and_nothing_else(helm4: Any, validator: Any, base: Any, place: str) -> None:
    effect = EFFECTS[place]
    values, before = base(effect.beside, place.startswith("dashboards"))
    after = helm4.render(with_value(values, place, effect.value))
    changed = [*changes(before, after)]
    for where in effect.where:
        assert any(fnmatchcase(found, where) for found, _ in changed), f"{place} does nothing at {where}"
    for found, _ in changed:
        assert any(fnmatchcase(found, where) for where in effect.where), f"{place} changes {found}"
    shown = json.dumps([now for _, now in changed])
    for text in {*texts(effect.value)} - {*texts(looked_up(values, place))}:
        assert json.dumps(text)[1:-1] in shown
    assert validator.mistakes([document for document in after if document not in before]) == []


def test_every_part_of_a_scaled_object_has_an_effect(helm4: Any, sets: dict[str, Values]) -> None:
    (given,) = sets["keda"]["keda"]["scaledObjects"]
    commented = re.findall(r"^  #   (\w+):|^  # - (\w+): emails", (CHART / "values.yaml").read_text(), re.MULTILINE)
    names = sorted(a or b for a, b in commented)
    assert {*given} <= {*names}
    others = {"name": "w", "kind": "StatefulSet", "namespace": "other", "source": "other", "queues": ["other"]}
    scaled = [given, *({**given, name: others.get(name, 17)} for name in names)]
    documents = helm4.render(with_value(sets["keda"], "keda.scaledObjects", scaled))
    plain, *changed = [json.dumps(d, sort_keys=True) for d in documents if d["kind"] == "ScaledObject"]
    for name, text in zip(names, changed, strict=True):
        assert text != plain, name


def test_misspelt_values_are_refused_wherever_they_are(helm: Any) -> None:
    folders = sorted({"", *(leaf.rpartition(".")[0] for leaf in leaves(DEFAULTS))})
    closed = [folder for folder in folders if not OPEN.match(folder)]
    assert len(closed) > 20
    values: Values = {}
    for folder in closed:
        values = with_value(values, f"{folder}.misspelt".lstrip("."), 1)
    said = helm.refuses(values)
    for folder in closed:
        place = folder.replace(".", "/")  # as Helm 4 writes it; Helm 3 writes dots and (root)
        assert re.search(rf"at '/?{place}': add.*misspelt|{folder or 'root'}\)?: Add.*misspelt", said), folder


def test_values_of_another_type_are_refused_by_name(helm: Any) -> None:
    values: Values = {}
    places = [leaf for leaf in leaves(DEFAULTS) if not OPEN.match(leaf)]
    for place in places:
        kept = looked_up(DEFAULTS, place)
        values = with_value(values, place, 7 if isinstance(kept, str | list | dict) else "seven")
    said = helm.refuses(values)
    for place in places:
        assert re.search(rf"at '/{place.replace('.', '/')}': |- {re.escape(place)}: ", said), place


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("kind", "DaemonSet"),
        ("shards", 0),
        ("configKind", "File"),
        ("fullnameOverride", "'"),
        ("fullnameOverride", "1st"),
        ("service.port", 70000),
        ("log.level", "loud"),
        ("existingSecrets", ["A b"]),
        ("existingSecrets", ["a", "a"]),
        ("extraSources", [{"configmap": {"name": "growth"}}]),
        ("monitoring.interval", "30 seconds"),
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
