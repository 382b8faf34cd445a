"""The application with all routes, and the server that listens for it and drains."""

from __future__ import annotations

import structlog
from aiohttp import web

from taskq_exporter.exporter import Exporter
from taskq_exporter.web import api, health, metrics, people
from taskq_exporter.web.keys import EXPORTER, METRICS_PATH, PAGES, PageOptions

__all__ = ["Server", "make_app"]

log = structlog.get_logger("taskq_exporter")


def make_app(exporter: Exporter, metrics_path: str = "/metrics", pages: PageOptions | None = None) -> web.Application:
    """The application with all routes."""
    app = web.Application()
    app[EXPORTER], app[METRICS_PATH], app[PAGES] = exporter, metrics_path, pages or PageOptions()
    metrics.add_routes(app, metrics_path)
    health.add_routes(app)
    api.add_routes(app)
    if metrics_path != "/":
        people.add_routes(app)
    return app


class Server:
    """Listens, and drains when stopped."""

    def __init__(
        self, exporter: Exporter, host: str, port: int, metrics_path: str, pages: PageOptions | None = None
    ) -> None:
        self._exporter = exporter
        self._host, self._port, self._path = host, port, metrics_path
        self._runner = web.AppRunner(
            make_app(exporter, metrics_path, pages), access_log=None, shutdown_timeout=10.0, handle_signals=False
        )

    async def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host or None, self._port).start()
        for address in self._runner.addresses:
            host, port = address[:2]
            log.info("listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}", path=self._path)

    async def stop(self) -> None:
        """Take no more requests, and let those under way end."""
        await self._runner.cleanup()
