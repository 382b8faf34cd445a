"""Collects and followers with their spans, and with the source's name in every line that is logged inside of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from structlog.contextvars import bind_contextvars

from taskq_exporter.api import AdapterError
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.telemetry import tracing
from taskq_exporter.telemetry.command_trace import trace_commands

__all__ = ["instrumented_collect", "instrumented_follower"]

_T = TypeVar("_T")


async def instrumented_collect(source: str, adapter: str, work: Callable[[], Awaitable[_T]]) -> _T:
    """Do the work of a collect, in a task of its own."""
    bind_contextvars(source=source)
    with tracing.span("collect", source=source, adapter=adapter) as span:
        try:
            return await work()
        except AdapterError as error:
            span.failed(error.reason.value, str(error))
            raise


@contextmanager
def instrumented_follower(source: str, adapter: str, ledger: SourceLedger) -> Iterator[None]:
    """Around a follower: a span for each batch of events that it counted."""
    if not tracing.enabled():
        yield
        return
    batch = _Batch(source, adapter)
    ledger.on_events, ledger.on_following = batch.events, batch.end
    with trace_commands(batch.sent):
        yield


class _Batch:
    """From the first command, or event, after the last batch to the moment when the follower says where it is."""

    def __init__(self, source: str, adapter: str) -> None:
        self._attributes = {"source": source, "adapter": adapter}
        self._clear()

    def _clear(self) -> None:
        self._begun: float | None = None
        self._events = self._commands = 0

    def sent(self, commands: Sequence[str], seconds: float, _succeeded: bool) -> None:
        self._begin(seconds)
        self._commands += len(commands)

    def events(self, n: int) -> None:
        self._begin(0.0)
        self._events += n

    def _begin(self, ago: float) -> None:
        if self._begun is None:
            self._begun = time.perf_counter() - ago

    def end(self) -> None:
        """Of a batch without events nobody needs to know."""
        if self._begun is not None and self._events:
            seconds = time.perf_counter() - self._begun
            counted = {"events": self._events, "commands": self._commands}
            tracing.record("follow", seconds, **self._attributes, **counted)
        self._clear()
