"""The configuration as it is in effect, for people: defaults filled in, secrets masked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from taskq_exporter.config.secretfiles import dump
from taskq_exporter.config.sources import ConfiguredSource, Module
from taskq_exporter.credentials import masked
from taskq_exporter.log import redact

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
    plain = dump(model)
    for (name, value), field in zip(model, type(model).model_fields.values(), strict=True):
        key = field.alias or name
        if isinstance(value, SecretStr) and key in plain:
            secret = value.get_secret_value()
            plain[key] = masked(secret) if "://" in secret else MASK
        elif value and not field.repr:
            plain[key] = masked(value) if isinstance(value, str) else MASK
    return plain
