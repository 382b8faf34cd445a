"""What the log says of one source: one line for each change, not one for each failed scrape."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from taskq_exporter.api import AdapterError, Problem

__all__ = ["SourceLog"]

log = structlog.get_logger("taskq_exporter")


class SourceLog:
    """Remembers what was said last."""

    def __init__(self, source: str, adapter: str) -> None:
        self._source, self._adapter = source, adapter
        self._up: bool | None = None
        self._parts: set[str] = set()

    def up(self) -> None:
        """It can be read."""
        if self._up is not True:
            self._up = True
            log.info("source is up", source=self._source, adapter=self._adapter)

    def down(self, error: AdapterError, where: str) -> None:
        """It cannot be read; `where` it is configured."""
        if self._up is not False:
            self._up = False
            reason = error.reason.value
            log.warning("source is down", source=self._source, reason=reason, error=str(error), configured=where)

    def problems(self, problems: Sequence[Problem]) -> None:
        """These parts of it cannot be read, the others can."""
        parts = {problem.part: problem for problem in problems}
        for part in parts.keys() - self._parts:
            reason, error = parts[part].reason.value, parts[part].message
            log.warning("cannot read a part", source=self._source, part=part, reason=reason, error=error)
        for part in self._parts - parts.keys():
            log.info("can read the part again", source=self._source, part=part)
        self._parts = set(parts)
