"""The server that listens for the application, on one address or several, and drains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog
from aiohttp import web

from taskq_exporter.web.keys import DRAINING, METRICS_PATH
from taskq_exporter.web.secure import protect
from taskq_exporter.web.webconfig import WebConfigFile

__all__ = ["ListenError", "Server"]

log = structlog.get_logger("taskq_exporter")


class ListenError(Exception):
    """An address that cannot be listened on; `str()` is why."""


class Server:
    """Listens, and drains when stopped."""

    def __init__(
        self, app: web.Application, addresses: Sequence[tuple[str, int]], web_config: WebConfigFile | None = None
    ) -> None:
        """Serve `app` at each host ("" for all interfaces) and port, as the web configuration file says."""
        self._app, self._addresses = app, addresses
        self._context = web_config.server_context() if web_config else None
        if web_config is not None:
            protect(app, web_config)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=10.0, handle_signals=False)

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        await self._runner.setup()
        for host, port in self._addresses:
            try:
                await web.TCPSite(self._runner, host or None, port, ssl_context=self._context).start()
            except (OSError, UnicodeError) as error:  # the second: no host can have such a name
                why = getattr(error, "strerror", None) or error
                raise ListenError(f"cannot listen on {_shown(host, port)}: {why}") from None
        for address in self._runner.addresses:
            path, tls = self._app[METRICS_PATH], self._context is not None
            log.info("listening", address=_shown(*address[:2]), path=path, tls=tls)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Be not ready, and go on serving for so long, or until `hurry`: load balancers need time to notice."""
        self._app[DRAINING].set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hurry.wait()

    async def stop(self) -> None:
        """Take no more requests, and let those under way end."""
        await self._runner.cleanup()


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
