"""The page for people at /."""

from __future__ import annotations

import html
import time

from aiohttp import web

from taskq_exporter import __version__
from taskq_exporter.api import Finding
from taskq_exporter.log import redact
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.web.keys import EXPORTER, METRICS_PATH

__all__ = ["add_routes"]


def add_routes(app: web.Application) -> None:
    """Serve /."""
    app.router.add_get("/", _index)


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
