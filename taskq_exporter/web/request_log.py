"""Every request has an id, in its log lines and its answer, one line at debug, and its caller's trace."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from structlog.contextvars import bound_contextvars

from taskq_exporter.telemetry import tracing

__all__ = ["REQUEST_ID", "log_requests"]

log = structlog.get_logger("taskq_exporter")

REQUEST_ID = "X-Request-ID"
#: Ids that are taken over; others could fill a log, or forge a line of it.
SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and tell of it."""
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if SANE.fullmatch(given) else uuid4().hex
    with bound_contextvars(request_id=request_id), tracing.continued(request.headers):
        begun, status = time.perf_counter(), 500
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as refused:
            status = refused.status
            refused.headers[REQUEST_ID] = request_id
            raise
        except Exception:
            log.exception("bug while answering", method=request.method, path=request.path)
            response = web.Response(status=500, text=f"500: a bug; the log says more under request_id {request_id}\n")
        finally:
            seconds = round(time.perf_counter() - begun, 4)
            # without its query, where anything may stand
            log.debug("request", method=request.method, path=request.path, status=status, seconds=seconds)
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id
        return response
