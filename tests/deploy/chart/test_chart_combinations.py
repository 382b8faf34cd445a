"""Any values together, under any name: what is rendered is valid, fits together and is what the exporter takes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_check import config_check
from effects import EFFECTS
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from invariants import broken
from places import CHART, DEFAULTS, Values, looked_up, with_value

from taskq_exporter.testing.tls import Certificates, make_certificates

FILES = {file.stem.removesuffix("-values"): yaml.safe_load(file.read_text()) for file in CHART.glob("ci/*-values.yaml")}
LABEL = st.from_regex(r"[a-z]([-a-z0-9_.]{0,61}[a-z0-9])?", fullmatch=True)
NAME = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
#: What the table has one example of, and users have many.
ANY: dict[str, st.SearchStrategy[Any]] = {
    "nameOverride": NAME,
    "fullnameOverride": NAME,
    "namespaceOverride": NAME,
    "image.tag": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True),
    "commonLabels": st.dictionaries(LABEL, LABEL, max_size=3),
    "podLabels": st.dictionaries(LABEL, LABEL, max_size=3),
    "service.labels": st.dictionaries(st.sampled_from(["app.kubernetes.io/name", "tier"]), LABEL),
    "existingSecrets": st.lists(st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,80}[a-z0-9])?", fullmatch=True), unique=True),
    "containerPort": st.integers(1, 65535),
    "service.port": st.integers(1, 65535),
    "shards": st.integers(1, 12),
    "kind": st.sampled_from(["Deployment", "StatefulSet", "Sidecar"]),
}
#: A smaller example takes minutes to find, and these say what was changed.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
RELEASE = st.from_regex(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?(\.[a-z0-9]{1,9})?", fullmatch=True)


FILE = st.sampled_from(sorted(FILES))


@st.composite
def changes(draw: st.DrawFn) -> Values:
    """Up to a dozen values, by their places."""
    places = draw(st.lists(st.sampled_from(sorted(EFFECTS)), unique=True, max_size=12))
    changed = {place: draw(ANY[place]) if place in ANY else EFFECTS[place].value for place in places}
    if "extraVolumeMounts" in changed:
        changed["extraVolumes"] = EFFECTS["extraVolumes"].value
    return changed


def refusals(values: Values) -> list[str]:
    """The values that do not go together, by what is said of them."""

    def has(place: str) -> Any:
        return looked_up(values, place) or looked_up(DEFAULTS, place)

    kind = has("kind")
    together = {
        "use one of them": sum(map(bool, map(has, ("sources", "existingConfigSecret", "existingConfigMap")))) > 1,
        "web.existingSecret": has("web.existingSecret") and has("web.config"),
        "set kind=StatefulSet": kind == "Deployment" and has("shards") > 1,
        "persistence.existingClaim": kind == "StatefulSet" and has("persistence.existingClaim"),
        "has no Service": kind == "Sidecar" and (has("serviceMonitor.enabled") or has("probe.enabled")),
        "sidecar.podLabels": kind == "Sidecar" and has("podMonitor.enabled") and not has("sidecar.podLabels"),
    }
    return [said for said, refused in together.items() if refused]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the exporter says of a configuration and a web configuration; where there is none, of none."""
    folder = tmp_path_factory.mktemp("checked")
    certificates = make_certificates(folder)
    (folder / "sources").mkdir()

    @cache
    def check(config: str | None, web: str | None) -> str:
        flags = []
        for name, text in (("config", config), ("web.config", web)):
            if text is not None:
                (folder / f"{name}.yaml").write_text(as_mounted(text, folder / "sources", certificates))
                flags.append(f"--{name}.file={folder / name}.yaml")
        status, said = config_check(*flags, CELERY_BROKER_URL="redis://broker/0") if flags else (0, "")
        return said if status else ""

    return check


def as_mounted(text: str, sources: Path, certificates: Certificates) -> str:
    """What the pod sees at these places is here elsewhere."""
    places = {
        "/etc/taskq-exporter-sources": sources,
        "/etc/taskq-exporter-tls/tls.crt": certificates.certificate,
        "/etc/taskq-exporter-tls/tls.key": certificates.key,
    }
    for mounted, here in places.items():
        text = text.replace(mounted, str(here))
    return text


def holds(helm: Any, validator: Any, checked: Any, file: str, changed: Values, release: str) -> None:
    values = FILES[file]
    for place, value in changed.items():
        values = with_value(values, place, value)
    done = helm.template(values, release=release)
    expected = refusals(values)
    if expected:
        assert any(said in done.stderr for said in expected), done.stderr
        return
    documents = helm.documents(done)
    assert validator.mistakes(documents) == []
    assert broken(documents, values, release) == []
    written = {name: text for d in documents for name, text in (d.get("stringData") or d.get("data") or {}).items()}
    assert checked(written.get("config.yaml"), written.get("web.yaml")) == ""


@settings(max_examples=10, deadline=None, derandomize=True, phases=PHASES)
@given(FILE, changes(), RELEASE)
def test_values_go_together(helm4: Any, validator: Any, checked: Any, file: str, changed: Values, release: str) -> None:
    holds(helm4, validator, checked, file, changed, release)


@pytest.mark.full
@pytest.mark.timeout(900)
@settings(max_examples=100, deadline=None, phases=PHASES)
@given(FILE, changes(), RELEASE)
def test_many_values_go_together(
    helm: Any, validator: Any, checked: Any, file: str, changed: Values, release: str
) -> None:
    holds(helm, validator, checked, file, changed, release)
