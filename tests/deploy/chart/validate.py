"""Checks manifests strictly, with a Python that has the schemas.

A JSON list of documents on each line of stdin, a JSON list of mistakes on each line of stdout.
"""

import functools
import json
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator
from referencing import Registry, Resource

VERSIONS = ("1.25.0", "1.37.0")
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
#: Of the Grafana operator there are no models: the part of its GrafanaDashboard that the chart uses.
GRAFANA_DASHBOARD = {
    "type": "object",
    "properties": {
        "apiVersion": {"const": "grafana.integreatly.org/v1beta1"},
        "kind": {},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["instanceSelector"],
            "additionalProperties": False,
            "properties": {
                "allowCrossNamespaceImport": {"type": "boolean"},
                "folder": {"type": "string"},
                "instanceSelector": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "matchExpressions": {"type": "array"},
                    },
                },
                "json": {"type": "string"},
                "resyncPeriod": {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"},
            },
        },
    },
}


def strict(node):
    """Pydantic's models take unknown keys: their schemas here do not."""
    if isinstance(node, dict):
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        for value in node.values():
            strict(value)
    elif isinstance(node, list):
        for value in node:
            strict(value)
    return node


MODELS = {
    **{kind: getattr(operator, kind) for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule", "Probe")},
    "ScaledObject": keda.ScaledObject,
}
CUSTOM = {kind: strict(model.model_json_schema(by_alias=True)) for kind, model in MODELS.items()}
CUSTOM["GrafanaDashboard"] = GRAFANA_DASHBOARD


@functools.cache
def definitions(version):
    return Resource.from_contents(json.loads((SCHEMAS / f"v{version}-local-strict" / "_definitions.json").read_text()))


@functools.cache
def validator(kind, api, version):
    """What kubernetes_validate makes anew for each document."""
    if kind in CUSTOM:
        return jsonschema.Draft202012Validator(CUSTOM[kind])
    group, _, name = api.rpartition("/")
    file = "-".join((kind.lower(), *([group.split(".")[0]] if group else []), name)) + ".json"
    schema = json.loads((SCHEMAS / f"v{version}-local-strict" / file).read_text())
    registry = definitions(version) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def mistakes(document):
    """What is wrong with one document; a kind without a schema ends the process."""
    kind, api = document["kind"], document["apiVersion"]
    return [
        f"{kind} in {version} {error.json_path}: {error.message[:300]}"
        for version in VERSIONS
        for error in validator(kind, api, version).iter_errors(document)
    ]


for line in sys.stdin:
    print(json.dumps([m for document in json.loads(line) for m in mistakes(document)]), flush=True)
