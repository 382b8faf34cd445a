"""Threads for what may hang: asyncio's default executor would hang with it, and DNS look-ups, and the exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

__all__ = ["in_thread", "retrieve"]


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run a blocking function in a daemon thread; a cancelled wait leaves the thread behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)

    def run() -> None:
        result: Any = None
        failed: Exception | None = None
        try:
            result = function()
        except StopIteration as error:  # which no future takes
            failed = RuntimeError("StopIteration")
            failed.__cause__ = error
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failed)

    context = copy_context()  # its log lines and spans are those of who waits
    threading.Thread(target=context.run, args=(run,), daemon=True, name="taskq-exporter").start()
    return await future


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the error of what nobody may wait for any more, so that asyncio does not complain."""
    with suppress(asyncio.CancelledError):
        future.exception()
