"""Commands told to whoever listens as they are sent: `once --trace`. Imported from taskq_exporter.api."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from taskq_exporter.text import printable

__all__ = ["Listener", "as_lines", "sending", "trace_commands"]

_T = TypeVar("_T")
#: Given the commands of one round trip, the seconds that it took and whether it succeeded; perhaps in a thread.
Listener = Callable[[Sequence[str], float, bool], None]

#: Characters of a command that are shown.
SHOWN = 500

_listener: ContextVar[Listener | None] = ContextVar("taskq_exporter_trace", default=None)


@contextmanager
def trace_commands(listener: Listener | None) -> Iterator[None]:
    """Tell `listener`, where there is one, what is sent inside the block, and by tasks that are started there."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def sending(commands: Iterable[_T], text: Callable[[_T], str]) -> Iterator[None]:
    """Around one round trip of a client: tell its commands and how long it took, also where it fails.

    Args:
        commands: Which are sent together.
        text: Makes a command readable, without credentials; only called where somebody listens.
    """
    listener = _listener.get()
    if listener is None:
        yield
        return
    texts = [text(command) for command in commands]  # now: later the connection, which quotes for it, may be gone
    begun, succeeded = time.perf_counter(), False
    try:
        yield
        succeeded = True
    finally:
        listener(texts, time.perf_counter() - begun, succeeded)


def as_lines(commands: Sequence[str], seconds: float, succeeded: bool) -> Iterator[str]:
    """What a listener is told, as text for people: a line for each command, the time of the round trip on the first."""
    for i, command in enumerate(commands):
        took = f"{seconds * 1000:8.1f} ms" if i == 0 else f"{'+':>8}   "
        text = printable(" ".join(command.split()))
        cut = f"{text[:SHOWN]}... ({len(text)} characters)" if len(text) > SHOWN else text
        yield f"{took}  {cut}" + ("" if succeeded else "  (failed)")
