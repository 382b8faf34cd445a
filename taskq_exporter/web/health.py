"""Health: alive, ready."""

from __future__ import annotations

from aiohttp import web

from taskq_exporter.web.keys import EXPORTER

__all__ = ["add_routes"]


def add_routes(app: web.Application) -> None:
    """Serve /-/healthy and /-/ready."""
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="taskq-exporter is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    waiting = [r.name for r in request.app[EXPORTER].runners.values() if not r.tried]
    if waiting:
        return web.Response(status=503, text=f"not ready: waiting for the first collect of {', '.join(waiting)}\n")
    return web.Response(text="taskq-exporter is ready.\n")
