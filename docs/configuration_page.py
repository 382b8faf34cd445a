"""docs/configuration.md, from the configuration's models."""

from __future__ import annotations

from described import options, table

from taskq_exporter.config.modules import ModuleConfig
from taskq_exporter.config.settings import SourceConfig, StateConfig

__all__ = ["configuration_page"]


def configuration_page() -> str:
    """The whole page as markdown."""
    head = ("option", "value", "default", "meaning")
    core = [(f"`{o.name}`", o.kind, o.default, o.text) for o in options(SourceConfig)]
    module = [(f"`{o.name}`", o.kind, o.default, o.text) for o in options(ModuleConfig)]
    state = [(f"`state.{o.name}`", o.kind, o.default, o.text) for o in options(StateConfig)]
    lines = [
        "<!-- Generated from the configuration's models by `make docs`; do not edit. -->",
        "# Configuration",
        "",
        "[config.example.yaml](../config.example.yaml) shows every option in its place. Durations are written 500ms,",
        "30s, 1m30s, 24h or 7d. In every text value `${VAR}` is an environment variable, `${VAR:-default}` one with a",
        "default, and `$$` a dollar sign. An unknown key is an error, with its line and column.",
        "",
        "## A source",
        "",
        "Beside these stand [its adapter's own](adapters/). `defaults` sets all but name, adapter, url and compat for",
        "every source.",
        *table(head, core),
        "",
        "## A module",
        "",
        "What the targets have in common that a request may name: `/probe?module=NAME&target=URL`. Beside these stand",
        "a source's options, without name and url, and its adapter's own.",
        *table(head, module),
        "",
        "## The exporter",
        *table(head, state),
        "",
    ]
    return "\n".join(lines)
