"""Service discovery for Prometheus' http_sd_config: a target for each source, to be scraped at /probe."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from taskq_exporter.scrape import SourceRunner
from taskq_exporter.web.keys import EXPORTER, PAGES

__all__ = ["add_routes"]


def add_routes(app: web.Application) -> None:
    """Serve /sd."""
    app.router.add_get("/sd", _targets)


async def _targets(request: web.Request) -> web.Response:
    external = urlsplit(request.app[PAGES].external_url)
    address = external.netloc or request.host
    labels = {"__metrics_path__": f"{external.path}/probe"}
    if scheme := external.scheme or ("https" if request.secure else ""):
        labels["__scheme__"] = scheme
    runners = request.app[EXPORTER].runners.values()
    return web.json_response([{"targets": [address], "labels": labels | _labels(r, address)} for r in runners])


def _labels(runner: SourceRunner, address: str) -> dict[str, Any]:
    annotations = runner.configured.config.annotations
    return {
        "__param_target": runner.name,
        # else `up` would be one series for all of them
        "instance": f"{address}/{runner.name}",
        "__meta_taskq_source": runner.name,
        "__meta_taskq_adapter": runner.adapter.name,
        **{f"__meta_taskq_annotation_{key}": value for key, value in annotations.items()},
    }
