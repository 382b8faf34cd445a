"""The web server: routes, listening, draining."""

from __future__ import annotations

import asyncio
import html
import math
import time

import structlog
from aiohttp import web

from taskq_exporter import __version__
from taskq_exporter.api import Finding
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import negotiate, wants_gzip
from taskq_exporter.log import redact
from taskq_exporter.page import render
from taskq_exporter.scrape import SourceRunner

__all__ = ["Server", "make_app", "scrape_deadline"]

log = structlog.get_logger("taskq_exporter")

#: Seconds that Prometheus needs for the way of the page to it.
TIMEOUT_OFFSET = 0.5
TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

EXPORTER: web.AppKey[Exporter] = web.AppKey("exporter", Exporter)
METRICS_PATH: web.AppKey[str] = web.AppKey("metrics_path", str)


def make_app(exporter: Exporter, metrics_path: str = "/metrics") -> web.Application:
    """The application with all routes."""
    app = web.Application()
    app[EXPORTER], app[METRICS_PATH] = exporter, metrics_path
    app.router.add_get(metrics_path, _metrics)
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    if metrics_path != "/":
        app.router.add_get("/", _index)
    return app


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


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="taskq-exporter is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    waiting = [r.name for r in request.app[EXPORTER].runners.values() if not r.tried]
    if waiting:
        return web.Response(status=503, text=f"not ready: waiting for the first collect of {', '.join(waiting)}\n")
    return web.Response(text="taskq-exporter is ready.\n")


async def _index(request: web.Request) -> web.Response:
    runners = request.app[EXPORTER].runners.values()
    rows = "".join(_row(runner) for runner in runners)
    empty = "" if rows else "<p>No source yet: looking for queues in the environment.</p>"
    path = html.escape(request.app[METRICS_PATH])
    return web.Response(
        content_type="text/html",
        charset="utf-8",
        text=f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>taskq-exporter</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #8884}}
.up{{color:#2a8a3e}}.down,.problem{{color:#c5352b}}.note{{color:#9a6700}}</style></head>
<body><h1>taskq-exporter {html.escape(__version__)}</h1>
<p><a href="{path}">Metrics</a> · <a href="/-/healthy">healthy</a> · <a href="/-/ready">ready</a></p>
<table><thead><tr><th>Source</th><th>Adapter</th><th>State</th><th>Last success</th><th>Follower</th></tr></thead>
<tbody>{rows}</tbody></table>{empty}</body></html>
""",
    )


def _row(runner: SourceRunner) -> str:
    if not runner.tried:
        state = "<td>not collected yet</td>"
    else:
        lines = [] if runner.error else ['<span class="up">up</span>']
        lines += (f'<span class="down">{html.escape(redact(text))}</span>' for text in runner.complaints())
        lines += (_finding(finding) for finding in runner.findings() if finding.level != "ok")
        state = f"<td>{'<br>'.join(lines)}</td>"
    last = f"{max(time.time() - runner.last_success, 0):.0f} s ago" if runner.last_success else "never"
    follower = {True: "following", False: "not following", None: "none"}[runner.following]
    name, adapter = html.escape(runner.name), html.escape(runner.adapter.name)
    return f"<tr><td>{name}</td><td>{adapter}</td>{state}<td>{last}</td><td>{follower}</td></tr>"


def _finding(finding: Finding) -> str:
    text = f"{finding.text}: {finding.advice}" if finding.advice else finding.text
    return f'<span class="{finding.level}">{html.escape(redact(text))}</span>'


class Server:
    """Listens, and drains when stopped."""

    def __init__(self, exporter: Exporter, host: str, port: int, metrics_path: str) -> None:
        self._exporter = exporter
        self._host, self._port, self._path = host, port, metrics_path
        self._runner = web.AppRunner(
            make_app(exporter, metrics_path), access_log=None, shutdown_timeout=10.0, handle_signals=False
        )

    async def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host or None, self._port).start()
        for address in self._runner.addresses:
            host, port = address[:2]
            log.info("listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}", path=self._path)

    async def stop(self) -> None:
        """Take no more requests, and let those under way end."""
        await self._runner.cleanup()
