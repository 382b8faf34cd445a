"""What the handlers find in the application."""

from __future__ import annotations

from aiohttp import web

from taskq_exporter.exporter import Exporter

__all__ = ["EXPORTER", "METRICS_PATH"]

EXPORTER: web.AppKey[Exporter] = web.AppKey("exporter", Exporter)
METRICS_PATH: web.AppKey[str] = web.AppKey("metrics_path", str)
