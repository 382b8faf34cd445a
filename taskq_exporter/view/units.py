"""Numbers as people read them. What is not known is a dash, and never 0."""

from __future__ import annotations

__all__ = ["AT_LEAST", "UNKNOWN", "count", "duration", "number_of", "rate"]

UNKNOWN = "–"
#: Before the number of what was counted up to a limit only.
AT_LEAST = "≥"


def count(number: float | None) -> str:
    """A number as "950", "12.3k" or "4.5M": exact below 10,000."""
    if number is None:
        return UNKNOWN
    if number < 10_000:
        return f"{number:.0f}"
    for size, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if number < size * 999.5:
            return f"{_short(number / size)}{unit}"
    return f"{number:.1e}"


def number_of(number: int, what: str) -> str:
    """A number of things as "1 queue" or "12.3k queues"."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as "12 ms", "3.2s", "45s", "2m 14s", "5h 3m" or "12d 4h"."""
    if seconds is None:
        return UNKNOWN
    if seconds == 0:
        return "0s"
    if seconds < 0.9995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def rate(per_second: float | None) -> str:
    """A rate as "12.3/s", "4.2/min" or "3/h": the unit in which it is 1 or more."""
    if per_second is None:
        return UNKNOWN
    for seconds, unit in ((1, "s"), (60, "min")):
        if per_second * seconds >= 0.995:
            number = per_second * seconds
            return f"{_short(number) if number < 10_000 else count(number)}/{unit}"
    return f"{_short(per_second * 3600)}/h" if per_second else "0"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if number < 99.95 else f"{number:.0f}"
