"""Places in a chart's values, written with dots: service.port."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CHART", "DEFAULTS", "Values", "leaves", "looked_up", "with_value"]

CHART = Path(__file__).parents[3] / "helm" / "taskq-exporter"
Values = dict[str, Any]
DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text())


def leaves(values: Values, at: str = "") -> Iterator[str]:
    """Every place with a value that is no mapping, or an empty one."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}"


def looked_up(values: Values, place: str) -> Any:
    """What stands there; {} where nothing does."""
    for name in place.split("."):
        values = values.get(name, {}) if isinstance(values, dict) else {}
    return values


def with_value(values: Values, place: str, value: Any) -> Values:
    """A copy with another value in that place."""
    changed = where = copy.deepcopy(values)
    *folders, name = place.split(".")
    for folder in folders:
        where = where.setdefault(folder, {})
    where[name] = value
    return changed
