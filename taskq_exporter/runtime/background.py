"""Tasks that nobody waits for: kept until they end, and none fails in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["Background"]

log = structlog.get_logger("taskq_exporter")


class Background(set[asyncio.Task[Any]]):
    """Those that run now: asyncio itself keeps only weak references to tasks."""

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Begin some work; an error that ends it is logged."""
        task = asyncio.create_task(work)
        self.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug in the background", exc_info=error)
