"""The queues as JSON, for scripts and for autoscalers such as KEDA's metrics-api.

`GET /api/sources` is `{"version", "timestamp", "sources": […]}`, each source as taskq_exporter.view.overview has it.
`GET /api/queues/SOURCE/QUEUE` is one queue, flat, with the names of its source and of its adapter beside it:

    {"source": "shop", "adapter": "celery", "name": "emails", "backlog": 14, "tasks": {"ready": 12, "running": 2},
     "oldest_ready": 3.6, "longest_run": 60.1, "consumers": 1, "slots": 4, "paused": null, "stuck": "", …}

Ages, durations and objectives are in seconds, times in Unix seconds. What is not known is null, or absent from `tasks`.
`capped` names the states whose count stopped at a limit: there are at least so many tasks. Where `oldest_is_bound`, the
oldest ready task may be older than `oldest_ready`.
Errors are `{"error": "…"}`: 404 where there is no such source or queue, 503 where its numbers are not known now.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from taskq_exporter import __version__
from taskq_exporter.exporter import Exporter
from taskq_exporter.view.overview import QueueOverview, SourceOverview
from taskq_exporter.view.status import overview
from taskq_exporter.web.keys import EXPORTER

__all__ = ["add_routes", "error", "now", "sources_from"]

#: A look that is not older (seconds) will do, so that many scripts at once cost one.
MAX_AGE = 1.0

_SOURCES = TypeAdapter(tuple[SourceOverview, ...])
_QUEUE = TypeAdapter(QueueOverview)


def add_routes(app: web.Application) -> None:
    """Serve /api/sources and /api/queues/."""
    app.router.add_get("/api/sources", _sources)
    app.router.add_get("/api/queues/{path:.+}", _queue)


def sources_from(document: Any) -> tuple[SourceOverview, ...]:
    """What /api/sources said, also of an exporter that knows more than this one. Raises ValueError."""
    try:
        return _SOURCES.validate_python(document["sources"])
    except (KeyError, TypeError, ValidationError):
        raise ValueError("not what GET /api/sources of a taskq-exporter says") from None


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error(status: int, text: str) -> web.Response:
    """An error as all of the API says it."""
    return web.json_response({"error": text}, status=status)


def _named(exporter: Exporter, path: str) -> tuple[str, str] | None:
    """The source that an encoded path begins with, and the queue behind it; None where there is no such source.

    Slashes of names (NAME/ALIAS) may stand there as %2F, or as they are: the longest name counts then.
    """
    first, _, rest = path.partition("/")
    if "/" not in rest and unquote(first) in exporter.runners:
        return unquote(first), unquote(rest)
    decoded = unquote(path)
    for name in sorted(exporter.runners, key=len, reverse=True):
        if decoded.startswith(f"{name}/"):
            return name, decoded[len(name) + 1 :]
    return None


async def _sources(request: web.Request) -> web.Response:
    found = await overview(request.app[EXPORTER], max_age=MAX_AGE)
    sources = _SOURCES.dump_python(tuple(found), mode="json")
    return web.json_response({"version": __version__, "timestamp": now(), "sources": sources})


async def _queue(request: web.Request) -> web.Response:
    exporter = request.app[EXPORTER]
    found = _named(exporter, request.rel_url.raw_path.removeprefix("/api/queues/"))
    if found is None:
        return error(404, f"no such source; there are: {', '.join(exporter.runners) or 'none yet'}")
    name, queue_name = found
    looks = await overview(exporter, [name], max_age=MAX_AGE)
    if not looks:  # a reload took it away in the meantime
        return error(404, f"no such source: {name}")
    (source,) = looks
    if source.state in ("down", "starting"):
        return error(503, f"source {name} is {source.state}: {source.reason or 'no collect has ended yet'}")
    queue = next((queue for queue in source.queues if queue.name == queue_name), None)
    if queue is None and source.state == "up":
        return error(404, f"source {name} has no queue {queue_name!r}")
    if queue is None or not queue.tasks:
        return error(503, f"source {name} cannot tell now what is in queue {queue_name!r}: {source.message}")
    document = _QUEUE.dump_python(queue, mode="json")
    return web.json_response({"source": source.name, "adapter": source.adapter, "timestamp": now(), **document})
