"""A thread for a client library that blocks: its calls run there in order, and their results come to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

from taskq_exporter.api import AdapterError, Reason

T = TypeVar("T")

#: Threads that may hang in a call of theirs after they were closed (a name server that does not answer).
MAX_HANGING = 32
#: Seconds that closing may take.
PATIENCE = 1.0
_closed: set[threading.Thread] = set()


class WorkerThread:
    """One daemon thread. asyncio's default executor would hang with a call, and DNS look-ups and the exit with it."""

    def __init__(self, name: str) -> None:
        """Start it.

        Raises:
            AdapterError: timeout, where too many earlier ones hang.
        """
        _closed.difference_update([thread for thread in _closed if not thread.is_alive()])
        if len(_closed) >= MAX_HANGING:
            raise AdapterError(Reason.TIMEOUT, "earlier connections still hang: look at the network and at DNS")
        self.loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"taskq-exporter-{name}", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], T]) -> T:
        """What the function returns or raises there. A cancelled wait leaves the call running."""
        return await self.submit(function)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the event loop, from this thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(function, *args)

    async def aclose(self, last: Callable[[], object], interrupt: Callable[[], object]) -> None:
        """End it after one last call. Where something hangs, interrupt it and do not wait. Again does no harm."""
        if self._thread in _closed:
            return
        _closed.add(self._thread)
        ended = self.submit(last)
        self._calls.put(None)
        try:
            async with asyncio.timeout(PATIENCE):
                await ended
        except Exception:  # noqa: BLE001 - it is closed in any case
            interrupt()
        except asyncio.CancelledError:
            interrupt()
            raise

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Have a function called there."""
        future: asyncio.Future[T] = self.loop.create_future()
        context = copy_context()  # of the caller, to whom it is told what is sent

        def run() -> None:
            try:
                result = context.run(function)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                self.post(_fail, future, error)
            else:
                self.post(_succeed, future, result)

        self._calls.put(run)
        return future

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            call = None  # what it holds must not live until the next one


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
