"""Types for the options of adapters."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

__all__ = ["Seconds"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    parts = re.findall(r"(\d+)(ms|[smhdw])", value) if isinstance(value, str) else []
    if not parts or "".join(n + unit for n, unit in parts) != value:
        raise ValueError("not a duration: write it as 500ms, 30s, 1m30s, 24h or 7d")
    return float(sum(int(n) * _UNITS[unit] for n, unit in parts))


#: A duration above 0, in seconds: "500ms", "1m30s", "7d" or a number.
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
