"""What the handlers find in the application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from taskq_exporter.adapters import Adapters
from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.reload import Reloader

__all__ = ["DRAINING", "EXPORTER", "LIFECYCLE", "METRICS_PATH", "PAGES", "Lifecycle", "PageOptions"]


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How pages of metrics are served."""

    max_requests: int = 40  # pages at once; 0: no limit
    timeout_offset: float = 0.5  # seconds that Prometheus needs for the way of the page to it
    external_url: str = ""  # under which others reach the exporter; "": as the request says


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How the configuration is read again and shown."""

    reloader: Reloader | None = None  # None: there is no configuration file
    adapters: Adapters = field(default_factory=Adapters)
    enabled: bool = False  # whether a request may reload


EXPORTER: web.AppKey[Exporter] = web.AppKey("exporter", Exporter)
METRICS_PATH: web.AppKey[str] = web.AppKey("metrics_path", str)
PAGES: web.AppKey[PageOptions] = web.AppKey("pages", PageOptions)
DRAINING: web.AppKey[asyncio.Event] = web.AppKey("draining", asyncio.Event)
LIFECYCLE: web.AppKey[Lifecycle] = web.AppKey("lifecycle", Lifecycle)
