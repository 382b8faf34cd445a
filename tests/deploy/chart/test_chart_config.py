"""The configuration as values: written as it was given, checked by the schema as the exporter checks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_check import config_check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
#: Mistakes of YAML itself, which values cannot have; of aliases a small file makes a huge one.
YAML_ALONE = {"bad-yaml", "complex-key", "deep", "deep-aliases", "many-aliases", "recursive", "tab"}
FILES = {path.stem.removeprefix("invalid-"): path for path in ROOT.glob("tests/data/config/invalid-*.yml")}
CASES = {name: path for name, path in sorted(FILES.items()) if name not in YAML_ALONE}
#: What only the exporter can tell, in the init container.
NOT_BY_SCHEMA = {
    *("buckets", "disable", "duplicate-key", "duplicate-source", "empty-url", "expansion", "expansion-clash", "limits"),
    *("missing-variable", "not-finite", "objective-twice", "scheme", "unknown-adapter"),
}
CELERY = {"name": "shop", "adapter": "celery", "url": "redis://redis/0"}


def configuration(documents: list[dict[str, Any]]) -> str:
    (text,) = [
        d.get("stringData", d.get("data"))["config.yaml"]
        for d in documents
        if "config.yaml" in d.get("stringData", d.get("data", {}))
    ]
    return str(text)


def as_values(config: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in config.items() if name != "sources"}
    return {"sources": config.get("sources") or [], "config": rest}


def check(text: str, folder: Path, **env: str) -> tuple[int, str]:
    (folder / "config.yaml").write_text(text)
    return config_check(f"--config.file={folder}/config.yaml", **env)


def test_sources_alone_are_enough(helm: Any, tmp_path: Path) -> None:
    documents = helm.render({"sources": [CELERY]})
    assert "good, 1 source\n" in check(configuration(documents), tmp_path)[1]
    pod = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    assert init["args"] == ["--config.check", "--config.file=/etc/taskq-exporter/config.yaml"]
    assert init["volumeMounts"] == pod["containers"][0]["volumeMounts"]


def test_every_option_is_taken(helm: Any, tmp_path: Path) -> None:
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    written = configuration(helm.render(as_values(example)))
    assert yaml.safe_load(written) == example
    status, said = check(written, tmp_path, CELERY_BROKER_URL="redis://broker/0")
    assert status == 0, said


@pytest.mark.parametrize("name", CASES)
def test_what_the_exporter_refuses_helm_refuses(helm4: Any, name: str, tmp_path: Path) -> None:
    try:
        config = yaml.safe_load(CASES[name].read_text().replace("adapter: fake", "adapter: django_tasks_redis"))
        json.dumps(config, allow_nan=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        pytest.skip("no values file either")
    if not isinstance(config, dict) or not config.get("sources"):
        pytest.skip("without sources the exporter looks at its environment")
    done = helm4.template(as_values(config))
    if name in NOT_BY_SCHEMA:
        text = configuration([d for d in yaml.safe_load_all(done.stdout) if d])
        assert check(text, tmp_path)[0] != 0
    else:
        assert done.returncode != 0, done.stdout


@pytest.mark.parametrize(
    "option",
    [
        {"timeout": "${TIMEOUT}"},
        {"timeout": 5},
        {"timeout": "1m30s"},
        {"inspect": "${INSPECT:-true}"},
        {"databases": [0, 1]},
        {"sentinel_kwargs": {"password_file": "/run/secrets/sentinel"}},
        {"objectives": [{"queue": "emails", "start_within": "30s", "ratio": 0.99}]},
    ],
    ids=str,
)
def test_what_the_exporter_takes_helm_takes(helm: Any, option: dict[str, Any], tmp_path: Path) -> None:
    text = configuration(helm.render({"sources": [{**CELERY, **option}]}))
    assert check(text, tmp_path, TIMEOUT="3s")[0] == 0


def test_somebody_elses_adapter_has_its_own_options(helm: Any) -> None:
    source = {"name": "mine", "adapter": "theirs", "url": "theirs://x", "anything": {"goes": True}}
    assert yaml.safe_load(configuration(helm.render({"sources": [source]})))["sources"] == [source]


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, TEXT, st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), TEXT, max_size=3), st.lists(TEXT))
def test_text_arrives_as_it_was_given(
    helm4: Any, validator: Any, name: str, url: str, annotations: dict[str, str], queues: list[str]
) -> None:
    source = {**CELERY, "name": name, "url": url, "annotations": annotations, "queues": {"include": queues}}
    keda = {"name": "w", "source": name, "queues": [url], "slots": 1, "longestTask": 1, "maxAge": 1}
    scaled = [{**keda, "maxReplicas": 2, "fallbackReplicas": 1}]
    documents = helm4.render({"sources": [source], "keda": {"scaledObjects": scaled}, "podAnnotations": annotations})
    assert yaml.safe_load(configuration(documents))["sources"] == [source]
    assert validator.mistakes(documents) == []


def test_a_changed_configuration_rolls_out(helm4: Any) -> None:
    def annotations(**values: Any) -> dict[str, str]:
        documents = helm4.render({"sources": [CELERY], **values})
        pod = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]
        return dict(pod["metadata"].get("annotations", {}))

    assert annotations() == annotations() != annotations(sources=[{**CELERY, "timeout": "3s"}])
    assert annotations(restartOnConfigChange=False) == {}
