"""Why a number is not on the page, and what a person does about a source that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskq_exporter.api import Reason
from taskq_exporter.view.overview import SourceOverview

__all__ = ["ADVICE", "CANNOT", "why_unknown"]

#: By reason of a capability.
CANNOT: Final[Mapping[str, str]] = {
    "none": "not known now",
    "version": "this version cannot tell",
    "permission": "no permission to read it",
    "option": "switched off here, or in the workers",
    "backend": "this queue system does not tell",
}
#: By reason of what failed, where more can be said than the error says itself.
ADVICE: Final[Mapping[str, str]] = {
    Reason.AUTH: "The credentials are read again at each try: a corrected url_file needs no restart.",
    Reason.PERMISSION: "`taskq-exporter grants` prints the rights that the user needs.",
    Reason.TIMEOUT: "Where the server is only slow, raise the source's `timeout`.",
    Reason.BUG: "This is a bug of the exporter: please report it with what its log says.",
}


def why_unknown(source: SourceOverview, family: str, states: tuple[str, ...] = ("",)) -> str:
    """Why a source does not tell a family (of these states) of a queue."""
    declared = {c.state: c for c in source.capabilities if c.family == family}
    for state in (*states, ""):
        if (capability := declared.get(state)) is not None:
            return CANNOT.get(capability.reason, capability.reason)
    return CANNOT["none" if not source.capabilities else "backend"]
