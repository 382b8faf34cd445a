"""Health: alive, ready, and how each source is, from what the last look at it found.

`GET /health` is `{"status", "version", "timestamp", "uptime_seconds", "checks": {SOURCE: {"status",
"response_time_seconds", "reason", "message", "last_error", "last_error_at"}}}`; `GET /health/SOURCE` is one of these
checks with the details of its server, workers and follower. A source is healthy, degraded (a part cannot be read),
unhealthy (down) or starting; all together are unhealthy, with HTTP status 503, where every source is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from taskq_exporter import __version__
from taskq_exporter.view.overview import SourceOverview
from taskq_exporter.view.status import overview
from taskq_exporter.web.api import error, now
from taskq_exporter.web.keys import DRAINING, EXPORTER

__all__ = ["add_routes"]

#: A look that is not older (seconds) will do; a new one is waited for so long (seconds).
MAX_AGE = 10.0
PATIENCE = 1.0

STATUS = {"up": "healthy", "partial": "degraded", "down": "unhealthy", "starting": "starting"}
LIVE = ("idle", "busy", "paused", "draining")

_STARTED: web.AppKey[float] = web.AppKey("started", float)
_WAS_READY: web.AppKey[asyncio.Event] = web.AppKey("was_ready", asyncio.Event)


def add_routes(app: web.Application) -> None:
    """Serve /-/healthy, /-/ready, /health and /health/."""
    app[_STARTED], app[_WAS_READY] = time.monotonic(), asyncio.Event()
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_get("/health", _health)
    app.router.add_get("/health/{source:.+}", _source_health)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="taskq-exporter is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if request.app[DRAINING].is_set():
        return web.Response(status=503, text="not ready: stopping\n")
    waiting = [r.name for r in request.app[EXPORTER].runners.values() if not r.tried]
    # A source that a reload adds must not take the pod, and with it all others, out of its Service.
    if waiting and not request.app[_WAS_READY].is_set():
        return web.Response(status=503, text=f"not ready: waiting for the first collect of {', '.join(waiting)}\n")
    request.app[_WAS_READY].set()
    return web.Response(text="taskq-exporter is ready.\n")


async def _health(request: web.Request) -> web.Response:
    sources = await overview(request.app[EXPORTER], max_age=MAX_AGE, patience=PATIENCE)
    status = _together(sources)
    document = {
        "status": status,
        "version": __version__,
        "timestamp": now(),
        "uptime_seconds": round(time.monotonic() - request.app[_STARTED], 3),
        "checks": {source.name: _check(source) for source in sources},
    }
    return web.json_response(document, status=503 if status == "unhealthy" else 200)


async def _source_health(request: web.Request) -> web.Response:
    exporter = request.app[EXPORTER]
    name = request.match_info["source"]
    looks = await overview(exporter, [name], max_age=MAX_AGE, patience=PATIENCE)
    if not looks:
        return error(404, f"no such source; there are: {', '.join(exporter.runners) or 'none yet'}")
    (source,) = looks
    document = {"source": source.name, "timestamp": now(), **_check(source), **_details(source)}
    return web.json_response(document, status=503 if source.state == "down" else 200)


def _together(sources: Sequence[SourceOverview]) -> str:
    states = {source.state for source in sources}
    if states == {"down"}:
        return "unhealthy"
    return "degraded" if states & {"down", "partial"} else "healthy"


def _check(source: SourceOverview) -> dict[str, Any]:
    """The status of one source; response_time_seconds is how long its last collect took."""
    return {
        "status": STATUS[source.state],
        "response_time_seconds": source.collect_seconds,
        "reason": source.reason,
        "message": source.message,
        "last_error": source.last_error,
        "last_error_at": source.last_error_at,
    }


def _details(source: SourceOverview) -> dict[str, Any]:
    """What is known of a source's server, workers and follower; null where nobody tells."""
    broker = source.broker
    return {
        "adapter": source.adapter,
        "server": source.server or None,
        "server_version": source.server_version or None,
        "snapshot_age_seconds": source.snapshot_age,
        "last_success": source.last_success,
        "broker": broker
        and {
            "latency_seconds": broker.roundtrip_seconds,
            "memory_bytes": broker.memory_bytes,
            "memory_limit_bytes": broker.memory_limit_bytes,
            "connections": dict(broker.connections) or None,
            "connections_limit": broker.connections_limit,
            "operations_per_second": source.operations_per_second,
        },
        "workers": _workers(source),
        "follower": {"following": source.following, "lag_seconds": source.follower_lag},
        "problems": [{"reason": p.reason.value, "part": p.part, "message": p.message} for p in source.problems],
        "findings": [asdict(finding) for finding in source.findings if finding.level != "ok"],
    }


def _workers(source: SourceOverview) -> dict[str, int] | None:
    """Workers in all, those that live, and those that are gone or do not answer; None where nobody tells."""
    if source.worker_states:
        total = sum(source.worker_states.values())
        active = sum(source.worker_states.get(state, 0) for state in LIVE)
    elif any(worker.up is not None for worker in source.workers):
        total, active = len(source.workers), sum(worker.up is not False for worker in source.workers)
    else:
        return None
    return {"total": total, "active": active, "unhealthy": total - active}
