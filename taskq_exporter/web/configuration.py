"""The configuration: read again, and shown as it is in effect; and the adapters that are installed."""

from __future__ import annotations

from aiohttp import web

from taskq_exporter.config.effective import effective_config
from taskq_exporter.config.mistakes import ConfigError
from taskq_exporter.log import redact
from taskq_exporter.runtime.threads import in_thread
from taskq_exporter.web.keys import EXPORTER, LIFECYCLE

__all__ = ["add_routes"]


def add_routes(app: web.Application) -> None:
    """Serve POST and PUT /-/reload, /config and /adapters."""
    app.router.add_post("/-/reload", _reload)
    app.router.add_put("/-/reload", _reload)
    app.router.add_get("/config", _config)
    app.router.add_get("/adapters", _adapters)


async def _reload(request: web.Request) -> web.Response:
    lifecycle = request.app[LIFECYCLE]
    if not lifecycle.enabled:
        return web.Response(
            status=403, text="reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP\n"
        )
    if lifecycle.reloader is None:
        return web.Response(text="nothing to reload: the sources come from the environment\n")
    try:
        return web.Response(text=redact(f"reloaded: {await lifecycle.reloader.reload()}\n"))
    except ConfigError as error:
        return web.Response(status=500, text=redact(f"not reloaded, the old configuration goes on:\n{error}\n"))


async def _config(request: web.Request) -> web.Response:
    """YAML: every source as it is watched, with its defaults and without its secrets."""
    reloader = request.app[LIFECYCLE].reloader
    state_dir = reloader.config.state_dir if reloader else None
    sources = [runner.configured for runner in request.app[EXPORTER].runners.values()]
    modules = reloader.config.modules if reloader else ()
    text = await in_thread(lambda: effective_config(sources, state_dir, modules))
    return web.Response(text=text, content_type="application/yaml", charset="utf-8")


async def _adapters(request: web.Request) -> web.Response:
    """`{"adapters": [{"name", "distribution", "version", "error"}]}`; the error is "" where it loads."""
    rows = await in_thread(request.app[LIFECYCLE].adapters.describe)  # loads those that no source uses
    keys = ("name", "distribution", "version", "error")
    return web.json_response({"adapters": [dict(zip(keys, map(redact, row), strict=True)) for row in rows]})
