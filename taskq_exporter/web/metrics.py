"""The page of metrics."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from taskq_exporter.exposition import negotiate, wants_gzip
from taskq_exporter.page import render
from taskq_exporter.web.keys import EXPORTER

__all__ = ["add_routes", "scrape_deadline"]

#: Seconds that Prometheus needs for the way of the page to it.
TIMEOUT_OFFSET = 0.5
TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"


def add_routes(app: web.Application, metrics_path: str) -> None:
    """Serve the page at `metrics_path`."""
    app.router.add_get(metrics_path, _metrics)


def scrape_deadline(header: str | None, arrived: float) -> float:
    """The loop's time by which a page must be made; infinite without a usable timeout header."""
    try:
        timeout = float(header or "nan")
    except ValueError:
        return math.inf
    if not math.isfinite(timeout) or timeout <= 0:
        return math.inf
    return arrived + (timeout - TIMEOUT_OFFSET if timeout > TIMEOUT_OFFSET else timeout / 2)


async def _metrics(request: web.Request) -> web.Response:
    arrived = asyncio.get_running_loop().time()
    exporter = request.app[EXPORTER]
    timeout = request.headers.get(TIMEOUT_HEADER)
    form = negotiate(request.headers.get("Accept"))
    gzip = wants_gzip(request.headers.get("Accept-Encoding"))
    # only a Prometheus sends the header; it alone needs to see a new series at 0 first
    scraper = f"{request.remote} {request.headers.get('User-Agent', '')}" if timeout else None
    reports = await exporter.gather(scrape_deadline(timeout, arrived), scraper)
    body = await render(exporter, reports, form, gzip=gzip)
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
