"""The page of metrics: which sources and families it is asked for, for whom, and until when."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from taskq_exporter.config.explain import close_to
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import families_of, negotiate, wants_gzip
from taskq_exporter.page import render
from taskq_exporter.schema import FAMILIES
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.selection import EVERY_FAMILY, Selection, written_as
from taskq_exporter.web.keys import EXPORTER, METRICS_PATH, PAGES

__all__ = ["add_routes", "answer", "deadline_of", "limited", "pick", "scrape_deadline"]

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

#: The parameters that make another page of the same sources.
FILTERS = ("collect[]", "name[]")
#: How many of the names that exist are told.
HINTS = 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Limit:
    """Counts the pages that are being made."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one page. Raises HTTPServiceUnavailable where there are too many."""
        if 0 < self._most <= self._now:
            text = f"{self._most} pages are being made (--web.max-requests); try again later\n"
            raise web.HTTPServiceUnavailable(text=text)
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1


_LIMIT: web.AppKey[_Limit] = web.AppKey("limit", _Limit)


def add_routes(app: web.Application, metrics_path: str) -> None:
    """Serve the page at `metrics_path`."""
    app[_LIMIT] = _Limit(app[PAGES].max_requests)
    app.router.add_get(metrics_path, limited(_metrics))


def limited(handler: Handler) -> Handler:
    """A handler of pages, of which --web.max-requests run at once."""

    async def one_of_them(request: web.Request) -> web.StreamResponse:
        with request.app[_LIMIT].one():
            return await handler(request)

    return one_of_them


async def _metrics(request: web.Request) -> web.StreamResponse:
    exporter = request.app[EXPORTER]
    runners = [pick(exporter, name, "collect[]") for name in dict.fromkeys(request.query.getall("collect[]", ()))]
    return await answer(request, exporter, runners or None)


def pick(exporter: Exporter, name: str, parameter: str) -> SourceRunner:
    """The source of that name. Raises HTTPBadRequest where there is none; its text does not repeat the name."""
    runner = exporter.runners.get(name)
    if runner is None:
        raise web.HTTPBadRequest(text=f"{parameter}: no such source{_hint(name, exporter.runners)}\n")
    return runner


async def answer(
    request: web.Request, exporter: Exporter, runners: Sequence[SourceRunner] | None = None, *, own: bool = True
) -> web.Response:
    """A page of these sources (None: all), in the format that is asked for; `own`: with the exporter's own metrics."""
    until = deadline_of(request)
    selection = _selection(request, exporter, own=own)
    form = negotiate(_joined(request, "Accept"))
    gzip = wants_gzip(_joined(request, "Accept-Encoding"))
    reports = await exporter.gather(until, _scraper(request), runners=runners, selection=selection)
    body = await render(exporter, reports, form, gzip=gzip, selection=selection, own=own)
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


def deadline_of(request: web.Request) -> float:
    """The loop's time by which the answer must be made. To be called when the request arrives."""
    offset = request.app[PAGES].timeout_offset
    return scrape_deadline(request.headers.get(TIMEOUT_HEADER), asyncio.get_running_loop().time(), offset)


def scrape_deadline(header: str | None, arrived: float, offset: float = 0.5) -> float:
    """The loop's time by which a page must be made; infinite without a usable timeout header."""
    try:
        timeout = float(header or "nan")
    except ValueError:
        return math.inf
    if not math.isfinite(timeout) or timeout <= 0:
        return math.inf
    return arrived + (timeout - offset if timeout > offset else timeout / 2)


def _selection(request: web.Request, exporter: Exporter, *, own: bool) -> Selection:
    """The families that name[] asks for. Raises HTTPBadRequest where one does not exist."""
    names = request.query.getall("name[]", ())
    if not names:
        return EVERY_FAMILY
    kinds: dict[str, str] = {name: family.kind for name, family in FAMILIES.items()}
    for runner in exporter.runners.values():
        kinds |= runner.own_families()
    if own:
        kinds |= families_of(exporter.self_metrics)
    known = {alias: name for name, kind in kinds.items() for alias in written_as(name, kind)}
    for name in names:
        if name not in known:
            raise web.HTTPBadRequest(text=f"name[]: no such family{_hint(name, kinds)}\n")
    return Selection(frozenset(known[name] for name in names))


def _hint(name: str, known: Collection[str]) -> str:
    names = sorted(known)
    few = ", ".join(names[:HINTS]) + (" …" if len(names) > HINTS else "")
    # a long name would take long to compare
    return close_to(name[:100], names) or f"; there are {few or 'none yet'}"


def _scraper(request: web.Request) -> str | None:
    """Who needs to see a new series at 0 first: only a Prometheus sends the timeout header; None for people and tools.

    What it asks for belongs to it: of two jobs of one Prometheus each has its own series, and is shown them in turn.
    """
    if TIMEOUT_HEADER not in request.headers or request.method == "HEAD":
        return None
    who = f"{request.remote} {request.headers.get('User-Agent', '')[:200]}"
    asked = sorted(item for item in request.query.items() if item[0] in FILTERS)
    if request.path == request.app[METRICS_PATH] and not asked:
        return who
    text = repr((request.path, asked))
    return f"{who} {hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def _joined(request: web.Request, header: str) -> str:
    return ",".join(request.headers.getall(header, ()))
