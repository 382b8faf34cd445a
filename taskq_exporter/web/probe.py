"""A page of one source: one that is configured, or a target that a module allows."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from taskq_exporter.config.explain import suggest
from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.fleet import Fleet, FleetFullError, Targets
from taskq_exporter.runtime.targets import Target, TargetError, parse_target
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.web.debug import debug_page
from taskq_exporter.web.keys import EXPORTER, LIFECYCLE
from taskq_exporter.web.metrics import answer, deadline_of, limited, pick
from taskq_exporter.web.recent import RecentLines

__all__ = ["add_routes"]

FLEET: web.AppKey[Fleet] = web.AppKey("fleet", Fleet)
RECENT: web.AppKey[RecentLines] = web.AppKey("recent", RecentLines)


def add_routes(app: web.Application) -> None:
    """Serve /probe."""
    reloader = app[LIFECYCLE].reloader
    app[FLEET] = Fleet(lambda: reloader.config.modules if reloader is not None else ())
    app[RECENT] = RecentLines()
    app.cleanup_ctx.append(_resources)
    app.router.add_get("/probe", limited(_probe))


async def _resources(app: web.Application) -> AsyncIterator[None]:
    logger = logging.getLogger("taskq_exporter")
    logger.addHandler(app[RECENT])
    yield
    logger.removeHandler(app[RECENT])
    await app[FLEET].close()


async def _probe(request: web.Request) -> web.StreamResponse:
    name = _one(request, "target")
    module = _one(request, "module")
    if name is None:
        what = "a source, as in /probe?target=NAME" if module is None else "a URL, as in /probe?module=NAME&target=URL"
        raise web.HTTPBadRequest(text=f"target: name {what}\n")
    if module is None:
        exporter = request.app[EXPORTER]
        return await _page(request, exporter, pick(exporter, name, "target"))
    targets, target = _target(request.app[FLEET], module, name)
    try:
        with targets.page(target) as runner:
            return await _page(request, targets.exporter, runner)
    except FleetFullError as error:
        raise web.HTTPServiceUnavailable(text=f"{error}\n") from None


async def _page(request: web.Request, exporter: Exporter, runner: SourceRunner) -> web.StreamResponse:
    if _one(request, "debug") == "true":
        return await debug_page(exporter, runner, deadline_of(request), request.app[RECENT].of(runner.name))
    return await answer(request, exporter, [runner], own=False)


def _target(fleet: Fleet, module: str, text: str) -> tuple[Targets, Target]:
    """What a request asks for, where it is allowed. No message repeats the target, which may hold a password."""
    targets = fleet.module(module)
    if targets is None:
        raise web.HTTPBadRequest(text=f"module: no such module{suggest(module[:100], fleet.names)}\n")
    try:
        target = parse_target(text)
    except TargetError as error:
        raise web.HTTPBadRequest(text=f"target: {error}; credentials and options are the module's\n") from None
    if not targets.module.allows(target):
        raise web.HTTPForbidden(text=f"target: module {targets.module.name!r} does not allow it; see its allow\n")
    return targets, target


def _one(request: web.Request, parameter: str) -> str | None:
    """A parameter that may stand there once."""
    values = request.query.getall(parameter, ())
    if len(values) > 1:
        raise web.HTTPBadRequest(text=f"{parameter}: there may be one\n")
    return values[0] if values else None
