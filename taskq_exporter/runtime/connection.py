"""A client that is kept open between uses: entered when first needed, dropped after an error, entered anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter.runtime.background import Background

__all__ = ["Connection"]

#: Seconds that closing a client may take; a frozen server must not hold up the next try.
CLOSE_TIMEOUT = 2.0
#: How many clients that do not end when cancelled may be left behind.
MAX_LEAVING = 8


class Connection:
    """Holds an adapter's connect() open in a task of its own, so that it is left in the task that entered it."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._connect = connect
        self._ready: asyncio.Future[Any] | None = None
        self._closing: asyncio.Event | None = None
        self._owner: asyncio.Task[None] | None = None
        self._leaving = Background()

    async def client(self) -> Any:
        """The client, connecting where needed. Raises what connect() raises."""
        if self._ready is None:
            if len(self._leaving) >= MAX_LEAVING:
                raise AdapterError(Reason.TIMEOUT, "earlier connections still hang")
            self._ready = asyncio.get_running_loop().create_future()
            self._closing = asyncio.Event()
            self._owner = asyncio.create_task(self._hold(self._ready, self._closing))
        ready = self._ready
        try:
            return await asyncio.shield(ready)
        finally:
            if ready.done() and (ready.cancelled() or ready.exception()) and self._ready is ready:
                self._ready = None  # the next one tries anew

    def abandon(self) -> None:
        """Leave the client in the background; the next client() connects anew."""
        owner, closing, self._ready, self._owner = self._owner, self._closing, None, None
        if owner is not None and closing is not None:
            self._leaving.start(_leave(owner, closing))

    async def close(self) -> None:
        """Leave the client, and wait until it is left, at most twice CLOSE_TIMEOUT."""
        self.abandon()
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=2 * CLOSE_TIMEOUT)

    async def _hold(self, ready: asyncio.Future[Any], closing: asyncio.Event) -> None:
        structlog.contextvars.unbind_contextvars("request_id")  # it outlives the request that needed it first
        entering = asyncio.current_task()
        waiter = asyncio.create_task(closing.wait())
        # a drop while connect() still hangs must end it
        waiter.add_done_callback(lambda _: entering.cancel() if entering and not ready.done() else None)
        try:
            async with self._connect() as client:
                if not ready.done():
                    ready.set_result(client)
                await closing.wait()
        except asyncio.CancelledError:
            if not ready.done():
                ready.cancel()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the client
            if not ready.done():
                ready.set_exception(error)
                ready.exception()  # retrieved: nobody may be waiting any more
        finally:
            waiter.cancel()


async def _leave(owner: asyncio.Task[None], closing: asyncio.Event) -> None:
    closing.set()
    _, pending = await asyncio.wait({owner}, timeout=CLOSE_TIMEOUT)
    for task in pending:
        task.cancel()
        await asyncio.wait({task})
