"""The last log lines of each source, for pages that say what happened to it."""

from __future__ import annotations

import logging
from collections import deque

from taskq_exporter.log import redact

__all__ = ["RecentLines"]

#: Lines of each source, and how many sources are remembered.
LINES = 10
SOURCES = 5000


class RecentLines(logging.Handler):
    """Keeps the lines that are logged with `source=`, as they are logged."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, deque[str]] = {}

    def of(self, source: str) -> list[str]:
        """Those of one source, oldest first."""
        return list(self._lines.get(source, ()))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        event = record.msg if isinstance(record.msg, dict) else {}  # as structlog hands it over
        source = event.get("source")
        formatter = next((h.formatter for h in logging.getLogger().handlers if h.formatter), None)
        if not isinstance(source, str) or formatter is None:
            return
        lines = self._lines.pop(source, None) or deque(maxlen=LINES)
        self._lines[source] = lines  # the latest last
        lines.append(redact(formatter.format(record)))
        while len(self._lines) > SOURCES:
            del self._lines[next(iter(self._lines))]
