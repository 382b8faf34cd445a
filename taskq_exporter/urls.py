"""Addresses of HTTP servers, as flags have them. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

__all__ = ["http_url"]


def http_url(text: str) -> SplitResult | None:
    """The parts of a URL of HTTP or HTTPS; None where it is none, or names no host, or a port that cannot be."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None
