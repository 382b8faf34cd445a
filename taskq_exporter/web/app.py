"""The application with all routes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from taskq_exporter.exporter import Exporter
from taskq_exporter.web import api, check, configuration, discovery, health, metrics, people, probe
from taskq_exporter.web.keys import DRAINING, EXPORTER, LIFECYCLE, METRICS_PATH, PAGES, Lifecycle, PageOptions
from taskq_exporter.web.request_log import log_requests

__all__ = ["make_app"]


def make_app(
    exporter: Exporter,
    metrics_path: str = "/metrics",
    pages: PageOptions | None = None,
    lifecycle: Lifecycle | None = None,
) -> web.Application:
    """The application with all routes."""
    app = web.Application(middlewares=[log_requests])
    app[EXPORTER], app[METRICS_PATH], app[PAGES] = exporter, metrics_path, pages or PageOptions()
    app[DRAINING], app[LIFECYCLE] = asyncio.Event(), lifecycle or Lifecycle()
    metrics.add_routes(app, metrics_path)
    probe.add_routes(app)
    discovery.add_routes(app)
    health.add_routes(app)
    api.add_routes(app)
    check.add_routes(app)
    configuration.add_routes(app)
    if metrics_path != "/":
        people.add_routes(app)
    app.on_response_prepare.append(_say_who)
    return app


async def _say_who(_request: web.Request, response: web.StreamResponse) -> None:
    """Without the versions that aiohttp would tell everybody."""
    response.headers["Server"] = "taskq-exporter"
