"""The page for people at /, and its style, script and icon."""

from __future__ import annotations

import time
import zlib
from functools import cache, partial
from hashlib import blake2s
from importlib.resources import files
from typing import Final

from aiohttp import web

from taskq_exporter.exposition import wants_gzip
from taskq_exporter.runtime.threads import in_thread
from taskq_exporter.view.overview import SourceOverview
from taskq_exporter.view.status import overview
from taskq_exporter.web.keys import EXPORTER, METRICS_PATH
from taskq_exporter.web.page.document import document
from taskq_exporter.web.page.view import View

__all__ = ["add_routes"]

ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
#: Nothing but the exporter's own files, and no inline style or script.
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Seconds that one look serves everybody, and that a page waits for a source that does not answer.
MAX_AGE: Final = 1.0
PATIENCE: Final = 1.0


def add_routes(app: web.Application) -> None:
    """Serve / and, beside the routes of the exporter's own, its files."""
    app.router.add_get("/", _index)
    for name in ASSETS:
        app.router.add_get(f"/-/{name}", _asset)


async def _index(request: web.Request) -> web.Response:
    sources = await overview(request.app[EXPORTER], max_age=MAX_AGE, patience=PATIENCE)
    # relative: the page may lie behind a path of a proxy
    links = {
        "Metrics": request.app[METRICS_PATH].removeprefix("/"),
        "Health": "health",
        "Ready": "-/ready",
        "Configuration": "config",
        "Adapters": "adapters",
    }
    gzip = wants_gzip(request.headers.get("Accept-Encoding"))
    body = await in_thread(partial(_body, sources, View.of(request.query), links, gzip))
    headers = {
        **HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Vary": "Accept-Encoding",
    }
    if gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


def _body(sources: list[SourceOverview], view: View, links: dict[str, str], gzip: bool) -> bytes:
    page = document(sources, view, links, _version(), time.time()).encode("utf-8", "replace")
    return zlib.compress(page, level=1, wbits=31) if gzip else page


async def _asset(request: web.Request) -> web.Response:
    name = request.path.rpartition("/")[2]
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return web.Response(body=_file(name), content_type=ASSETS[name], charset="utf-8", headers=headers)


@cache
def _file(name: str) -> bytes:
    return (files("taskq_exporter.web.page") / name).read_bytes()


@cache
def _version() -> str:
    """Changes with style and script, so that no browser goes on with old ones."""
    return blake2s(b"".join(map(_file, ASSETS)), digest_size=6).hexdigest()
