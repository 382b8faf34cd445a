"""GET /api/check: what `check` says, of the running sources; taskq_exporter.view.doctor documents it.

It is made at most every few seconds, for all who ask together.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.threads import retrieve
from taskq_exporter.view.doctor import Report, as_json, examine
from taskq_exporter.web.api import error
from taskq_exporter.web.keys import EXPORTER

__all__ = ["add_routes"]

#: Seconds that a report is shown again: adapters send commands, and listen, to make one.
FRESH = 5.0
#: Seconds that somebody waits for one.
PATIENCE = 30.0


def add_routes(app: web.Application) -> None:
    """Serve /api/check."""
    app[_EXAMINATION] = _Examination(app[EXPORTER])
    app.router.add_get("/api/check", _check)


class _Examination:
    """One at a time, and not too often."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._task: asyncio.Task[Report] | None = None
        self._ended = 0.0  # the loop's time

    async def report(self) -> Report | None:
        """The one under way or a fresh one; None where it takes too long."""
        loop = asyncio.get_running_loop()
        if self._task is None or (self._task.done() and (self._failed() or loop.time() - self._ended > FRESH)):
            self._task = asyncio.create_task(self._examine())
            self._task.add_done_callback(retrieve)
        task = self._task
        await asyncio.wait({task}, timeout=PATIENCE)
        return task.result() if task.done() else None

    def _failed(self) -> bool:
        return self._task is not None and (self._task.cancelled() or self._task.exception() is not None)

    async def _examine(self) -> Report:
        try:
            return await examine(self._exporter)
        finally:
            self._ended = asyncio.get_running_loop().time()


_EXAMINATION: web.AppKey[_Examination] = web.AppKey("examination", _Examination)


async def _check(request: web.Request) -> web.Response:
    report = await request.app[_EXAMINATION].report()
    if report is None:
        return error(503, f"the sources were not examined within {PATIENCE:g} s")
    return web.json_response(as_json(report))
