"""What went wrong with one source: counted by reason, logged once for each change."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import structlog

from taskq_exporter.api import AdapterError, Reason

__all__ = ["Failures", "cancelled_by_us"]

log = structlog.get_logger("taskq_exporter")


def cancelled_by_us() -> bool:
    """Whether this task is being cancelled; else a CancelledError leaked out of an adapter, and is a bug of its."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Failures:
    """The errors of one source."""

    def __init__(self, source: str, adapter: str, timeout: float) -> None:
        self._source, self._adapter = source, adapter
        self.timeout = timeout  # of the source, in seconds
        self.counts: Counter[Reason] = Counter()
        self.last: Reason | None = None
        self.last_at: float | None = None  # Unix seconds
        self._bugs: dict[str, str] = {}  # by what was done: the one that was logged last

    def count(self, reason: Reason) -> None:
        """Count an error that is said elsewhere."""
        self.counts[reason] += 1
        self.last, self.last_at = reason, time.time()

    def take(self, error: BaseException, doing: str) -> AdapterError:
        """Count an error and say what it is: expected; a timeout; else a bug, with its traceback in the log once."""
        if isinstance(error, TimeoutError):
            error = AdapterError(Reason.TIMEOUT, f"no answer within {self.timeout:g} s")
        if not isinstance(error, AdapterError):
            bug = f"{type(error).__name__}: {error}"
            if self._bugs.get(doing) != bug:
                self._bugs[doing] = bug
                log.error("bug in adapter", source=self._source, adapter=self._adapter, doing=doing, exc_info=error)
            error = AdapterError(Reason.BUG, f"{type(error).__name__} in adapter {self._adapter}; see the log")
        self.count(error.reason)
        return error

    def recovered(self, doing: str) -> None:
        """Say that it works, so that the next bug is logged again."""
        self._bugs.pop(doing, None)
