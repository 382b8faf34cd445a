"""The configuration as it is in effect, for people: defaults filled in, secrets masked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from taskq_exporter.credentials import masked
from taskq_exporter.log import redact
from taskq_exporter.secretfiles import SUFFIX, FileSecret
from taskq_exporter.sources import ConfiguredSource, Module

__all__ = ["effective_config"]

MASK = "***"


def effective_config(
    sources: Iterable[ConfiguredSource], state_dir: Path | None = None, modules: Iterable[Module] = ()
) -> str:
    """YAML with each source as it is watched; durations are in seconds, and what is not set is left out."""
    told: dict[str, Any] = {"state": {"dir": str(state_dir)}} if state_dir else {}
    told["sources"] = [
        {"name": s.config.name, "adapter": s.config.adapter, **_plain(s.config), **_plain(s.options)} for s in sources
    ]
    if of_modules := {m.name: _module(m) for m in modules}:
        told["modules"] = of_modules
    return redact(yaml.safe_dump(told, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))


def _module(module: Module) -> dict[str, Any]:
    source = _plain(module.template.config)
    of_source = {key: value for key, value in source.items() if key not in ("name", "url")}
    return {**of_source, **_plain(module.template.options), **_plain(module.config)}


def _plain(model: BaseModel) -> dict[str, Any]:
    plain = model.model_dump(mode="json", by_alias=True, exclude_none=True)  # secrets are asterisks there
    for (name, value), field in zip(model, type(model).model_fields.values(), strict=True):
        key = field.alias or name
        if isinstance(value, FileSecret):
            del plain[key]
            plain[key + SUFFIX] = str(value.path)
        elif isinstance(value, SecretStr) and "://" in value.get_secret_value():
            plain[key] = masked(value.get_secret_value())
        elif value and not field.repr:
            plain[key] = masked(value) if isinstance(value, str) else MASK
    return plain
