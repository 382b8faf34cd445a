"""What the handlers find in the application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from taskq_exporter.exporter import Exporter

__all__ = ["DRAINING", "EXPORTER", "METRICS_PATH", "PAGES", "PageOptions"]


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How pages of metrics are served."""

    max_requests: int = 40  # pages at once; 0: no limit
    timeout_offset: float = 0.5  # seconds that Prometheus needs for the way of the page to it
    external_url: str = ""  # under which others reach the exporter; "": as the request says


EXPORTER: web.AppKey[Exporter] = web.AppKey("exporter", Exporter)
METRICS_PATH: web.AppKey[str] = web.AppKey("metrics_path", str)
PAGES: web.AppKey[PageOptions] = web.AppKey("pages", PageOptions)
DRAINING: web.AppKey[asyncio.Event] = web.AppKey("draining", asyncio.Event)
