"""What the web configuration file asks of every request, health included: a certificate's name, a rate, a password."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from taskq_exporter.web.logins import Logins, TooManyError, credentials
from taskq_exporter.web.webconfig import RateLimit, WebConfig, WebConfigFile

__all__ = ["Bucket", "protect"]

CHALLENGE = {"WWW-Authenticate": 'Basic realm="taskq-exporter", charset="UTF-8"'}


class Bucket:
    """Tokens for requests, as `rate_limit` says."""

    def __init__(self) -> None:
        self._limit = RateLimit()
        self._tokens = self._at = 0.0

    def wait(self, limit: RateLimit, now: float) -> float:
        """Take a token; 0 where there was one, else in how many seconds there will be."""
        if not limit.interval:
            return 0.0
        if limit != self._limit:
            self._limit, self._tokens, self._at = limit, float(limit.burst), now
        self._tokens = min(self._tokens + (now - self._at) / limit.interval, float(limit.burst))
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) * limit.interval
        self._tokens -= 1
        return 0.0


def protect(app: web.Application, file: WebConfigFile) -> None:
    """Refuse what the file refuses, on every route, and send its headers in every answer."""
    logins, bucket = Logins(), Bucket()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        config = file.current().config
        _check_names(request, config)
        if wait := bucket.wait(config.rate_limit, time.monotonic()):
            raise web.HTTPTooManyRequests(headers={"Retry-After": str(math.ceil(wait))})
        if config.basic_auth_users:
            await _check_password(request, config, logins)
        return await handler(request)

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(file.current().config.http_server_config.headers.sent())

    app.middlewares.append(guard)
    app.on_response_prepare.append(add_headers)


def _check_names(request: web.Request, config: WebConfig) -> None:
    tls = config.tls_server_config
    if tls is None or not tls.client_allowed_sans:
        return
    if not _names(request.get_extra_info("peercert")).intersection(tls.client_allowed_sans):
        response = web.HTTPForbidden(text="403: the client's certificate has no name of client_allowed_sans\n")
        response.force_close()
        raise response


def _names(certificate: Mapping[str, Any] | None) -> set[str]:
    """The subject alternative names of a client's certificate."""
    names: Iterable[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return {str(ip_address(value.strip())) if kind == "IP Address" else value for kind, value in names}


async def _check_password(request: web.Request, config: WebConfig, logins: Logins) -> None:
    given = credentials(request.headers.get("Authorization"))
    try:
        if given is not None and await logins.good(config.basic_auth_users, *given):
            return
    except TooManyError:
        raise web.HTTPTooManyRequests(headers={"Retry-After": "1"}) from None
    raise web.HTTPUnauthorized(headers=CHALLENGE)
