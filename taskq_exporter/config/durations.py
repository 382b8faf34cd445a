"""Durations as they are written in a configuration; adapters import them from taskq_exporter.api."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

__all__ = ["Period", "Seconds", "duration"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


def duration(value: object) -> float:
    """Seconds of a Prometheus duration ("500ms", "1m30s", "7d") or of a number. Raises ValueError."""
    parts = re.findall(r"(\d+)(ms|[smhdwy])", value) if isinstance(value, str) else []
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if parts and "".join(n + unit for n, unit in parts) == value:
            return float(sum(int(n) * _UNITS[unit] for n, unit in parts))
    except (OverflowError, ValueError):  # hundreds of digits
        pass
    raise ValueError("not a duration: write it as 500ms, 30s, 1m30s, 24h or 7d")


#: A duration in seconds, which may be 0.
Seconds = Annotated[float, BeforeValidator(duration), Field(ge=0, allow_inf_nan=False)]
#: A duration in seconds above 0.
Period = Annotated[float, BeforeValidator(duration), Field(gt=0, allow_inf_nan=False)]
