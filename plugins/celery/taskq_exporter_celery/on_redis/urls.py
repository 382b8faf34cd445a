"""Kombu's broker URLs in the toolkit's words. Verified with kombu 5.7.0."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from redis.asyncio.connection import parse_url
from taskq_exporter_redis import is_sentinel, parse_sentinel

from taskq_exporter.api import AdapterError, Reason


def redis_urls(url: str) -> list[str]:
    """The brokers that a URL names: several (`a;b`) are alternatives, in this order; Sentinels (`a;b`) are one.

    Raises:
        AdapterError: unsupported, where one is no Redis.
    """
    if is_sentinel(url):
        return [url.strip()]
    return [_redis_url(part.strip()) for part in url.split(";") if part.strip()] or [_redis_url("")]


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "redis" and any(option.startswith("ssl_") for option in parse_qs(parts.query)):
        return parts._replace(scheme="rediss").geturl()  # kombu takes these options as a wish for TLS
    if parts.scheme in ("redis", "rediss", "unix"):
        return url
    if parts.scheme in ("redis+socket", "socket"):
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        query["db"] = query.pop("virtual_host", "0").strip("/") or "0"
        return f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"
    kind = parts.scheme or "unnamed"
    raise AdapterError(
        Reason.UNSUPPORTED,
        f"a broker of the kind {kind} is not supported: give a redis://, rediss://, sentinel:// or unix:// URL",
    )


def parsed(url: str) -> dict[str, Any]:
    """What the first broker of a URL is, as redis-py's arguments: `db` and others, where the URL says them.

    Raises:
        AdapterError: unsupported.
        ValueError: Where it is none. The text may hold credentials.
    """
    first = redis_urls(url)[0]
    return dict(parse_url(parse_sentinel(first)[0] if is_sentinel(first) else first))
