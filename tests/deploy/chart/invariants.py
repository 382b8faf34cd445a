"""What must hold between the manifests of one release: what no schema of a single object says."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["broken"]

Document = dict[str, Any]
LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
VOLUME_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: Of the pods of a StatefulSet: the label controller-revision-hash has the name and 11 characters.
LONGEST_WORKLOAD = 52
LARGEST_DATA = 1 << 20
#: Fields that name a Secret or a ConfigMap, by the field that holds them.
REFERENCES = {
    **dict.fromkeys(("secretKeyRef", "secretRef"), ("Secret", "name")),
    **dict.fromkeys(("configMapKeyRef", "configMapRef", "configMap"), ("ConfigMap", "name")),
    "secret": ("Secret", "secretName"),
}


def broken(documents: list[Document], values: dict[str, Any], release: str = "demo") -> list[str]:
    """What is wrong; objects that the values name are somebody else's, and there."""
    theirs = {*_texts(json.loads(json.dumps(values).replace("{{ .Release.Name }}", release)))}
    owners = [d for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
    return [
        *_objects(documents),
        *(problem for d in documents for problem in _references(d, documents, theirs)),
        *(problem for d in documents if "containers" in _pod(d) for problem in _pod_spec(d)),
        *(problem for owner in owners for problem in _found(owner, documents)),
        *_monitors(documents),
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    else:
        yield str(value)


def _nodes(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Everything below, with the name of its field."""
    yield name, value
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from _nodes(item, key)
    for item in value if isinstance(value, list) else ():
        yield from _nodes(item, name)


def _pod(document: Document) -> Document:
    """The spec of its pod."""
    spec: Document = document.get("spec", {})
    return spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec", {})


def _labels(document: Document) -> dict[str, str]:
    """Those of its pod."""
    where = document if document["kind"] == "Pod" else document["spec"]["template"]
    return dict(where["metadata"]["labels"])


def _objects(documents: list[Document]) -> Iterator[str]:
    """Names, labels and sizes that the API server takes; no object twice."""
    keys = Counter((d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents)
    yield from (f"{key} is there twice" for key, count in keys.items() if count > 1)
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if not (SERVICE_NAME if kind == "Service" else OBJECT_NAME).fullmatch(name):
            yield f"{kind} has the name {name!r}"
        if kind in ("Deployment", "StatefulSet") and len(name) > LONGEST_WORKLOAD:
            yield f"{kind} has a name of {len(name)} characters"
        yield from (f"{kind}/{name} has nothing in {field}" for field, node in _nodes(document) if node is None)
        for field, node in _nodes(document["metadata"] if kind == "PrometheusRule" else document):  # not alerts' labels
            if field in ("labels", "matchLabels", "selector") and isinstance(node, dict):
                for key, value in node.items():
                    if isinstance(value, str) and not (LABEL_NAME.fullmatch(key) and LABEL_VALUE.fullmatch(value)):
                        yield f"{kind}/{name} has the label {key}: {value}"
        if kind in ("Secret", "ConfigMap") and len(json.dumps(document)) > LARGEST_DATA:
            yield f"{kind}/{name} is larger than etcd takes"


def _references(document: Document, documents: list[Document], theirs: set[str]) -> Iterator[str]:
    """Each Secret, ConfigMap, claim, account and Service that it names is written, or named by the values."""
    namespace = document["metadata"].get("namespace")
    written = {(d["kind"], d["metadata"]["name"]) for d in documents if d["metadata"].get("namespace") == namespace}
    for field, node in _nodes(document.get("spec", {})):
        if field in REFERENCES and isinstance(node, dict):
            kind, key = REFERENCES[field]
            yield from _missing(document, kind, node.get(key) or node.get("name"), written, theirs)
        if field == "persistentVolumeClaim":
            yield from _missing(document, "PersistentVolumeClaim", node["claimName"], written, theirs)
        if field == "serviceAccountName" and node != "default":
            yield from _missing(document, "ServiceAccount", node, written, theirs)
    if document["kind"] == "StatefulSet":
        yield from _missing(document, "Service", document["spec"]["serviceName"], written, set())


def _missing(
    document: Document, kind: str, name: str | None, written: set[tuple[str, str]], theirs: set[str]
) -> Iterator[str]:
    if (kind, name) not in written and name not in theirs:
        yield f"{document['kind']} names {kind} {name}, which is not there"


def _pod_spec(document: Document) -> Iterator[str]:
    """Volumes, containers, ports and probes of one pod fit together; it is locked down as far as the chart can."""
    pod, kind = _pod(document), document["kind"]
    claims = [claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])]
    volumes = Counter([volume["name"] for volume in pod.get("volumes") or ()] + claims)
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    names = Counter(container["name"] for container in containers)
    yield from (f"{kind} has {name} twice" for name, count in (volumes + names).items() if count > 1)
    yield from (f"{kind} has the volume {name!r}" for name in volumes if not VOLUME_NAME.fullmatch(name))
    for container in containers:
        mounts = container.get("volumeMounts", [])
        yield from (f"{kind} mounts {m['name']}, no volume" for m in mounts if m["name"] not in volumes)
        for what, found in (
            ("mount", Counter(mount["mountPath"] for mount in mounts)),
            ("variable", Counter(variable["name"] for variable in container.get("env", []))),
        ):
            yield from (f"{kind} has the {what} {name} twice" for name, count in found.items() if count > 1)
        ports = {port["name"] for port in container.get("ports", [])}
        for field, probe in container.items():
            if field.endswith("Probe"):
                handlers = probe.keys() & {"httpGet", "exec", "tcpSocket", "grpc"}
                if len(handlers) != 1:
                    yield f"{field} asks by {sorted(handlers)}"
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if isinstance(port, str) and port not in ports:
                    yield f"{field} asks port {port}"
    used = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    yield from (f"{kind} does not use the volume {name}" for name in volumes if "taskq-" in name and name not in used)
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{kind} has a token of the API server"


def _found(owner: Document, documents: list[Document]) -> Iterator[str]:
    """Who looks for its pods finds them and no others, and at a port that they have."""
    labels = _labels(owner)
    others = [_labels(d) for d in documents if d["kind"] == "Pod"]
    ports = {port["name"] for container in _pod(owner)["containers"] for port in container.get("ports", [])}
    for document in (owner, *documents):
        kind, spec = document["kind"], document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector", {})
        if document is owner or kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
            selector = selector.get("matchLabels", selector)
            if not selector or not selector.items() <= labels.items():
                yield f"{kind} does not select the pods"
            if any(selector.items() <= other.items() for other in others):
                yield f"{kind} selects the pod of `helm test`"
        asked = {
            "Service": [port["targetPort"] for port in spec.get("ports", [])],
            "NetworkPolicy": [port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]],
            "PodMonitor": [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])],
        }.get(kind, [])
        yield from (f"{kind} asks port {port}" for port in asked if port not in ports)
    selected = owner["spec"]["selector"]["matchLabels"]
    if "helm.sh/chart" in selected:
        yield "the selector has a version, and cannot change"
    for constraint in _pod(owner).get("topologySpreadConstraints", []):
        if constraint["labelSelector"]["matchLabels"] != selected:
            yield "pods are spread by other labels"


def _monitors(documents: list[Document]) -> Iterator[str]:
    """Each monitor finds what it scrapes, once."""
    services = [d for d in documents if d["kind"] == "Service"]
    for monitor in (d for d in documents if d["kind"] == "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        found = [s for s in services if selector <= s["metadata"]["labels"].items()]
        if len(found) != 1 or found[0]["spec"].get("clusterIP") == "None":
            yield f"ServiceMonitor selects {[s['metadata']['name'] for s in found]}"
        for service in found:
            if service["metadata"]["namespace"] not in monitor["spec"]["namespaceSelector"]["matchNames"]:
                yield "ServiceMonitor looks in another namespace"
            for endpoint in monitor["spec"]["endpoints"]:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"ServiceMonitor asks port {endpoint['port']}"
    for probe in (d for d in documents if d["kind"] == "Probe"):
        addresses = {
            f"{s['metadata']['name']}.{s['metadata']['namespace']}.svc:{port['port']}"
            for s in services
            for port in s["spec"]["ports"]
        }
        if probe["spec"]["prober"]["url"] not in addresses:
            yield "Probe asks nobody"
