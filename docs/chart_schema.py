"""values.schema.json of the Helm chart: the configuration from its models, the rest from values.yaml. Strict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from described import comments
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.durations import duration
from taskq_exporter.config.modules import ModuleConfig
from taskq_exporter.config.secretfiles import SUFFIX
from taskq_exporter.config.settings import Core, SourceConfig, StateConfig

__all__ = ["values_schema"]

_Schema = dict[str, Any]
#: Every text may name environment variables, and so may what stands for a number.
VARIABLE: _Schema = {"type": "string", "pattern": r"\$\{"}
DURATION: _Schema = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^(\d+(ms|[smhdwy]))+$"}, VARIABLE]
}
NAME = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"
PROMETHEUS_DURATION = r"^(\d+(ms|[smhdwy]))+$"
_OPEN: _Schema = {"type": "object"}
_TEXT: _Schema = {"type": "string", "minLength": 1}
_SCALED: dict[str, _Schema] = {
    "name": _TEXT,
    "kind": {"enum": ["Deployment", "StatefulSet"]},
    "namespace": {"type": "string", "pattern": NAME},
    "source": _TEXT,
    "queues": {"type": "array", "items": _TEXT, "minItems": 1},
    "slots": {"type": "integer", "minimum": 1},
    "longestTask": {"type": "integer", "minimum": 0, "maximum": 3540},  # an HPA stabilises for an hour at most
    "maxAge": {"type": "number", "exclusiveMinimum": 0},
    "minReplicas": {"type": "integer", "minimum": 0},
    "maxReplicas": {"type": "integer", "minimum": 1},
    "fallbackReplicas": {"type": "integer", "minimum": 0},
}


def _strict(properties: Mapping[str, _Schema], required: Iterable[str] = ()) -> _Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "required": sorted({*required}),
    }


#: What values.yaml does not show of itself, by the place of a value.
SAID: dict[str, _Schema] = {
    "configKind": {"enum": ["Secret", "ConfigMap"]},
    "kind": {"enum": ["Deployment", "StatefulSet", "Sidecar"]},
    "shards": {"type": "integer", "minimum": 1, "maximum": 1000},
    "extraSources": {
        "type": "array",
        "items": {**_strict({"configMap": _OPEN, "secret": _OPEN}), "minProperties": 1, "maxProperties": 1},
    },
    "existingSecrets": {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "pattern": r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"},
    },
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "log.level": {"enum": ["debug", "info", "warn", "error"]},
    "log.format": {"enum": ["logfmt", "json"]},
    "containerPort": {"type": "integer", "minimum": 1, "maximum": 65535},
    "service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "monitoring.interval": {"type": "string", "pattern": PROMETHEUS_DURATION},
    "monitoring.scrapeTimeout": {"type": "string", "pattern": f"^$|{PROMETHEUS_DURATION}"},
    "monitoring.sampleLimit": {"type": "integer", "minimum": 0},
    "podDisruptionBudget.maxUnavailable": {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+%$"}]
    },
    "probe.targets": {"type": "array", "items": _TEXT},
    "web.telemetryPath": {"type": "string", "pattern": "^/"},
    "nameOverride": {"type": "string", "pattern": NAME},
    "fullnameOverride": {"type": "string", "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"},  # a Service's begins so
    "namespaceOverride": {"type": "string", "pattern": NAME},
    "keda.scaledObjects": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "properties": _SCALED,
            "required": [name for name in _SCALED if name not in ("kind", "namespace", "minReplicas")],
        },
    },
    # anything that Kubernetes takes there
    **dict.fromkeys(
        (
            *("global", "resources", "podSecurityContext", "securityContext"),
            *("livenessProbe", "readinessProbe", "startupProbe"),
            *("dashboards.configMaps.labels", "dashboards.grafanaOperator.instanceSelector"),
        ),
        _OPEN,
    ),
    "extraManifests": {"type": "array", "items": {"type": ["object", "string"]}},
}


class _Generator(GenerateJsonSchema):
    """JSON schemas with durations, variables, secrets from files, and what the comments say."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        if schema["function"]["function"] is duration:
            return dict(DURATION)
        made = super().function_before_schema(schema)
        # what is read before a mapping or a list may be short for it: the init container checks it
        kinds = {kind.get("type") for kind in (made, *made.get("anyOf", ()))}
        return {} if kinds & {"object", "array"} and "properties" not in made else made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), VARIABLE]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), VARIABLE]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), VARIABLE]}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        said = comments(schema["cls"])
        texts = {field.alias or name: said.get(name, "") for name, field in schema["cls"].model_fields.items()}
        properties: dict[str, _Schema] = made.get("properties", {})
        for name, value in list(properties.items()):
            value.pop("default", None)
            if texts.get(name):
                value["description"] = texts[name]
            if "password" in (value.get("format"), *(kind.get("format") for kind in value.get("anyOf", ()))):
                properties[name + SUFFIX] = {"type": "string"}
                made["required"] = [required for required in made.get("required", []) if required != name]
        return made


def values_schema(chart: Path) -> str:
    """The file as text."""
    definitions: dict[str, _Schema] = {}
    adapters = Adapters()
    source, core, module = (_model(model, definitions) for model in (SourceConfig, Core, ModuleConfig))
    in_sources, in_modules = [], []
    for name in adapters.names:
        options = adapters.get(name).options
        own = _model(options, definitions)
        plurals = {
            many: {"type": "array", "minItems": 1, "items": own["properties"][one]}
            for many, one in options.expands.items()
        }
        of_source = dict(source["properties"])
        required = ["name", "adapter", *own.get("required", [])]
        if not options.needs_url:
            del of_source["url"], of_source["url_file"]
        definitions[name] = _strict({**of_source, **own["properties"], **plurals}, required)
        if options.needs_url:
            definitions[name]["oneOf"] = [{"required": ["url"]}, {"required": ["url_file"]}]
            of_module = {"adapter": {}, **core["properties"], **own["properties"], **module["properties"]}
            definitions[f"{name}_module"] = _strict(of_module, ["adapter", "allow", *own.get("required", [])])
            in_modules.append(_when(name, f"{name}_module"))
        in_sources.append(_when(name, name))
    # an adapter of somebody else's may have any options: the init container checks them
    sources = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "adapter"],
            "properties": source["properties"],
            "allOf": in_sources,
        },
    }
    modules = {
        "type": "object",
        "additionalProperties": {"type": "object", "required": ["adapter", "allow"], "allOf": in_modules},
    }
    config = {
        "defaults": core,
        "state": _model(StateConfig, definitions),
        "modules": modules,
        "sources_dir": {"type": "string"},
    }
    values = yaml.safe_load((chart / "values.yaml").read_text("utf-8"))
    said = {**SAID, "sources": sources, "config": _strict(config)}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **_of_value(values, "", said)}
    schema["properties"]["enabled"] = {
        "type": "boolean",
        "description": "For the condition of a chart that needs this.",
    }
    return json.dumps({**schema, "definitions": definitions}, indent=1) + "\n"


def _when(adapter: str, definition: str) -> _Schema:
    return {"if": {"properties": {"adapter": {"const": adapter}}}, "then": {"$ref": f"#/definitions/{definition}"}}


def _model(model: type[BaseModel], definitions: dict[str, _Schema]) -> _Schema:
    """The schema of a model; those of models inside it become definitions, under names of this model."""
    made = model.model_json_schema(
        ref_template=f"#/definitions/{model.__name__}.{{model}}", schema_generator=_Generator
    )
    for name, inner in made.pop("$defs", {}).items():
        definitions[f"{model.__name__}.{name}"] = _untitled(inner)
    return dict(_untitled(made))


def _untitled(value: Any) -> Any:
    """Without pydantic's titles, and without the bounds that it leaves beside a duration."""
    if isinstance(value, dict):
        kept = {
            k: v
            for k, v in value.items()
            if k not in ("gt", "ge", "lt", "le") and (k != "title" or isinstance(v, Mapping))
        }
        return {k: _untitled(v) for k, v in kept.items()}
    return [_untitled(item) for item in value] if isinstance(value, list) else value


def _of_value(value: Any, place: str, said: Mapping[str, _Schema]) -> _Schema:
    """What a default says of the values in its place."""
    if place in said:
        return said[place]
    if isinstance(value, dict):
        if not value:
            return _OPEN
        return _strict({k: _of_value(v, f"{place}.{k}".lstrip("."), said) for k, v in value.items()})
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return {"type": kinds[type(value)]}
