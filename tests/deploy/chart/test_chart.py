"""What the Helm chart renders fits together, and is what Kubernetes and the operators take."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from invariants import broken

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "taskq-exporter"
NAMES = sorted(file.stem.removesuffix("-values") for file in CHART.glob("ci/*-values.yaml"))
Sets = dict[str, dict[str, Any]]
Document = dict[str, Any]


def only(documents: list[Document], kind: str) -> Document:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def workload(documents: list[Document]) -> Document:
    (found,) = [document for document in documents if document["kind"] in ("Deployment", "StatefulSet")]
    return found


def metrics_service(documents: list[Document]) -> Document:
    (found,) = [d for d in documents if d["kind"] == "Service" and d["spec"].get("clusterIP") != "None"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_is_linted_and_its_manifests_are_valid_and_fit_together(
    helm: Any, validator: Any, sets: Sets, name: str
) -> None:
    values = sets[name]
    done = helm.run(values, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr
    documents = helm.render(values)
    assert validator.mistakes(documents) == []
    assert broken(documents, values) == []
    for document in documents:
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"


def examples() -> list[str]:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    return [part.partition("\n")[2] for part in page.split("```")[1::2] if part.startswith('yaml title="values"')]


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.partition(":")[0])
def test_examples_of_the_page_are_values(helm4: Any, validator: Any, example: str) -> None:
    values = yaml.safe_load(example)
    documents = helm4.render(values)
    assert validator.mistakes(documents) == []
    assert broken(documents, values) == []
    assert documents != helm4.render({})


def test_what_a_hub_shows_is_what_is_installed(helm4: Any) -> None:
    said = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    (image,) = yaml.safe_load(said["artifacthub.io/images"])
    assert image["image"] == workload(helm4.render({}))["spec"]["template"]["spec"]["containers"][0]["image"]
    changes = yaml.safe_load(said["artifacthub.io/changes"])
    assert {change["kind"] for change in changes} <= {"added", "changed", "deprecated", "removed", "fixed", "security"}
    example = (CHART / "README.md").read_text().split("```")[1].removeprefix("yaml\n")
    assert helm4.render(yaml.safe_load(example)) != helm4.render({})


#: Mistakes of templates: what they would render, where in the file `everything` of the folder `ci`, and what is said.
MISTAKES: list[tuple[str, str, Any, str]] = [
    ("Service", "metadata.name", "1st", "has the name"),
    ("Deployment", "metadata.name", "a" * 53, "53 characters"),
    ("Deployment", "metadata.labels", {"app": "-"}, "has the label app"),
    ("Deployment", "spec.selector.matchLabels", {"app": "other"}, "Deployment does not select"),
    (
        "Deployment",
        "spec.selector.matchLabels",
        {"app.kubernetes.io/instance": "demo"},
        "selects the pod of `helm test`",
    ),
    ("Service", "spec.selector", {"app": "other"}, "Service does not select"),
    ("NetworkPolicy", "spec.podSelector", {}, "NetworkPolicy does not select"),
    ("PodDisruptionBudget", "spec.selector.matchLabels", {"app": "other"}, "PodDisruptionBudget does not select"),
    ("PodMonitor", "spec.selector.matchLabels", {"app": "other"}, "PodMonitor does not select"),
    ("ServiceMonitor", "spec.selector.matchLabels", {"app": "other"}, "ServiceMonitor selects []"),
    ("ServiceMonitor", "spec.namespaceSelector.matchNames", ["other"], "another namespace"),
    ("ServiceMonitor", "spec.endpoints.0.port", "other", "ServiceMonitor asks port other"),
    ("PodMonitor", "spec.podMetricsEndpoints.0.port", "other", "PodMonitor asks port other"),
    ("Service", "spec.ports.0.targetPort", "other", "Service asks port other"),
    ("NetworkPolicy", "spec.ingress.0.ports.0.port", "other", "NetworkPolicy asks port other"),
    ("Probe", "spec.prober.url", "other:80", "Probe asks nobody"),
    ("Deployment", "spec.template.spec.volumes.0.name", "other", "no volume"),
    ("Deployment", "spec.template.spec.volumes.0.name", "taskq-config", "taskq-config twice"),
    ("Deployment", "spec.template.spec.volumes.0.persistentVolumeClaim.claimName", "gone", "gone, which is not there"),
    ("Deployment", "spec.template.spec.volumes.1.secret.secretName", "gone", "names Secret gone"),
    ("Deployment", "spec.template.spec.serviceAccountName", "gone", "names ServiceAccount gone"),
    ("Deployment", "spec.template.spec.containers.0.env.0.valueFrom.secretKeyRef.name", "gone", "names Secret gone"),
    ("Deployment", "spec.template.spec.containers.0.volumeMounts.0.mountPath", "/ca", "the mount /ca twice"),
    ("Deployment", "spec.template.spec.containers.0.readinessProbe.httpGet.port", "other", "readinessProbe asks port"),
    ("Deployment", "spec.template.spec.containers.0.livenessProbe", {}, "livenessProbe asks by []"),
    ("Deployment", "spec.template.spec.containers.1.name", "wait", "wait twice"),
    ("Deployment", "spec.template.spec.automountServiceAccountToken", True, "a token of the API server"),
    ("Deployment", "spec.template.spec.topologySpreadConstraints.0.labelSelector.matchLabels", {}, "other labels"),
    ("Deployment", "spec.template.spec.volumes", None, "nothing in volumes"),
    ("Secret", "stringData", {"a": "b" * (1 << 20)}, "larger than etcd takes"),
]


def test_what_does_not_fit_together_is_found(helm4: Any, sets: Sets) -> None:
    documents = helm4.render(sets["everything"])
    for kind, place, value, said in MISTAKES:
        changed = copy.deepcopy(documents)
        where: Any = next(d for d in changed if d["kind"] == kind)
        *folders, last = place.split(".")
        for folder in folders:
            where = where[int(folder) if folder.isdecimal() else folder]
        where[last] = value
        problems = broken(changed, sets["everything"])
        assert any(said in problem for problem in problems), (kind, place, problems)
    assert any("is there twice" in problem for problem in broken([*documents, documents[0]], sets["everything"]))


@pytest.mark.parametrize("kind", ["Deployment", "ServiceMonitor", "PrometheusRule", "ScaledObject", "GrafanaDashboard"])
def test_a_misspelt_key_would_be_found(helm4: Any, validator: Any, sets: Sets, kind: str) -> None:
    document = next(d for d in helm4.render(sets["everything"]) if d["kind"] == kind)
    document["spec"]["misspelt"] = 1
    (said, *_) = validator.mistakes([document])
    assert "misspelt" in said


def test_an_authority_of_your_own_is_trusted_instead(helm4: Any) -> None:
    env = [{"name": "SSL_CERT_FILE", "value": "/etc/ssl/certs/ours.pem"}]
    values = {"web": {"tlsSecret": "tls"}, "tests": {"env": env}}
    documents = helm4.render(values)
    assert broken(documents, values) == []
    (container,) = only(documents, "Pod")["spec"]["containers"]
    assert container["env"] == env


def test_one_exporter_at_a_time(helm4: Any) -> None:
    spec = workload(helm4.render({}))["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert "shards" in helm4.refuses({"shards": 2})


def test_shards_share_the_sources(helm4: Any, sets: Sets) -> None:
    documents = helm4.render(sets["shards"])
    owner = only(documents, "StatefulSet")
    assert owner["spec"]["replicas"] == 3
    assert "--shard=hostname/3" in owner["spec"]["template"]["spec"]["containers"][0]["args"]
    (claim,) = owner["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "taskq-state"
    headless = {d["metadata"]["name"] for d in documents if d["kind"] == "Service"} - {owner["metadata"]["name"]}
    assert headless == {owner["spec"]["serviceName"]}
    checked = [c["args"][1] for c in only(documents, "Pod")["spec"]["containers"]]
    assert checked[2] == "--url=http://demo-taskq-exporter-2.demo-taskq-exporter-shards.monitoring.svc:9540"


def test_monitors_find_what_they_scrape(helm: Any, sets: Sets) -> None:
    assert not {"ServiceMonitor", "PodMonitor", "Probe"} & {d["kind"] for d in helm.render({})}
    documents = helm.render(sets["everything"])
    monitor, service = only(documents, "ServiceMonitor"), metrics_service(documents)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    # the headless service is none of its targets
    services = [d for d in helm.render(sets["shards"]) if d["kind"] == "Service"]
    (sharded,) = [service for service in services if service["spec"].get("clusterIP") == "None"]
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= sharded["metadata"]["labels"].items()


def test_a_sidecar_is_a_container_of_somebody_elses_pod(helm: Any, validator: Any, sets: Sets, tmp_path: Path) -> None:
    documents = helm.render(sets["sidecar"])
    assert not {"Deployment", "StatefulSet", "Service", "Pod"} & {d["kind"] for d in documents}
    labels = sets["sidecar"]["sidecar"]["podLabels"]
    assert only(documents, "PodMonitor")["spec"]["selector"]["matchLabels"] == labels
    assert "sidecar.podLabels" in helm.refuses({"kind": "Sidecar", "podMonitor": {"enabled": True}})

    # a chart that has this one among its dependencies, as docs/kubernetes.md shows it
    (tmp_path / "templates").mkdir()
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "taskq-exporter").symlink_to(CHART)
    dependency = {"name": "taskq-exporter", "version": "*", "condition": "taskq-exporter.enabled"}
    about = {"apiVersion": "v2", "name": "shop", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(json.dumps(about))
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    template = next(part for part in page.split("```")[1::2] if part.startswith('yaml title="template"'))
    (tmp_path / "templates" / "worker.yaml").write_text(template.partition("\n")[2])
    values = {"taskq-exporter": {**sets["sidecar"], "enabled": True}}
    documents = helm.render(values, tmp_path)
    # native sidecars are of 1.29
    assert [mistake for mistake in validator.mistakes(documents) if "restartPolicy" not in mistake] == []
    pod = only(documents, "Deployment")["spec"]["template"]
    (sidecar,) = pod["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "--config.file=/etc/taskq-exporter/config.yaml" in sidecar["args"]
    assert {mount["name"] for mount in sidecar["volumeMounts"]} <= {v["name"] for v in pod["spec"]["volumes"]}
    assert labels.items() <= pod["metadata"]["labels"].items()


def test_rules_are_those_of_the_mixin(helm: Any, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "taskq_exporter", "mixin", f"--dir={tmp_path}"], check=True)
    groups = only(helm.render({"prometheusRule": {"enabled": True}}), "PrometheusRule")["spec"]["groups"]
    files = [yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) for name in ("recording-rules", "alerts")]
    assert groups == [group for file in files for group in file["groups"]]


def test_rules_change_as_values_say(helm4: Any, tmp_path: Path) -> None:
    flags = ["--set=oldest_age_seconds=900", "--grafana-url=https://g.example", "--runbook-url=https://r.example"]
    subprocess.run([sys.executable, "-m", "taskq_exporter", "mixin", f"--dir={tmp_path}", *flags], check=True)
    (expected,) = yaml.safe_load((tmp_path / "alerts.yaml").read_text())["groups"]
    values = {
        "enabled": True,
        "thresholds": {"oldest_age_seconds": 900},
        "grafanaUrl": "https://g.example",
        "runbookUrl": "https://r.example",
        "disabled": ["TaskqTaskStuck"],
        "overrides": {"TaskqQueueTooOld": {"for": "15m", "labels": {"severity": "warning"}}},
    }
    groups = only(helm4.render({"prometheusRule": values}), "PrometheusRule")["spec"]["groups"]
    rules = {rule["alert"]: rule for rule in groups[1]["rules"]}
    for rule in expected["rules"]:
        if rule["alert"] == "TaskqQueueTooOld":
            rule["for"] = "15m"
            rule["labels"]["severity"] = "warning"
        if rule["alert"] != "TaskqTaskStuck":
            assert rules.pop(rule["alert"]) == rule
    assert rules == {}


def test_dashboards_are_those_of_the_mixin(helm: Any, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "taskq_exporter", "mixin", f"--dir={tmp_path}"], check=True)
    boards = {path.name: json.loads(path.read_text()) for path in (tmp_path / "dashboards").iterdir()}
    on = {"enabled": True}
    documents = helm.render({"dashboards": {"configMaps": on, "grafanaOperator": on}})
    maps = [d["data"] for d in documents if d["kind"] == "ConfigMap"]
    assert {name: json.loads(text) for data in maps for name, text in data.items()} == boards
    operated = [json.loads(d["spec"]["json"]) for d in documents if d["kind"] == "GrafanaDashboard"]
    assert {f"{board['uid']}.json": board for board in operated} == boards
