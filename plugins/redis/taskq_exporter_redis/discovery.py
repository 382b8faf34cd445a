"""Names found in the background, so that no scrape ever waits for a SCAN of the whole database."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_redis.client import RedisClient

#: How many times as long as a round took the search rests at least: a walk through a large database is not all it does.
RESTS = 20
#: Slices of SCAN after which each one is followed by a pause, and how many times as long as the slice took: others wait
#: for a server that looks through its keys. With 5 million keys they did so for 1.5 ms at the median, now for none.
FAST_SLICES = 100
PAUSES = 3


def escape_glob(text: str) -> str:
    """`text` as a pattern of SCAN, KEYS or an ACL that matches itself only."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


async def scan(
    client: RedisClient, match: str, type_: str | None = None, count: int = 1000, slices: int = 100_000
) -> AsyncIterator[bytes]:
    """The keys that match a pattern, some perhaps twice. Each slice blocks the server for about `count` keys.

    In a large database it takes its time, so that others get theirs: some 8 seconds for each million keys.

    Args:
        client: Through which to read.
        match: A pattern of SCAN.
        type_: Only keys of this type, e.g. "stream" (Redis 6).
        count: Keys that the server looks at per slice.
        slices: After how many slices to give up.

    Raises:
        AdapterError: cost, where the database has more than about count x slices keys; and those of `command`.
    """
    cursor: bytes = b"0"
    of_type = ("TYPE", type_) if type_ else ()
    for done in range(slices):
        begun = time.monotonic()
        cursor, keys = await client.command("SCAN", cursor, "MATCH", match, "COUNT", count, *of_type)
        took = time.monotonic() - begun
        for key in keys:
            yield key
        if cursor == b"0":
            return
        await asyncio.sleep(took * PAUSES if done >= FAST_SLICES else 0)
    raise AdapterError(Reason.COST, f"more than {count * slices} keys to look through: name the queues instead")


#: After these errors a search rests only as long as the round took: it waited for the server, which had no work of it.
_WAITED = {Reason.BUSY, Reason.CONNECT, Reason.TIMEOUT}


class Discovery:
    """Names that `refresh` finds: now, and again every so many seconds or later, while the context is entered."""

    def __init__(self, refresh: Callable[[], Awaitable[Iterable[str]]], every: float, *, rests: int = RESTS) -> None:
        """Starts when it is entered.

        Args:
            refresh: One round; may raise AdapterError.
            every: Seconds between rounds.
            rests: At least so many times as long as a round took; once where the server did not answer.
        """
        #: Why the last round found nothing new; what earlier rounds found is kept.
        self.problem: AdapterError | None = None
        self._refresh = refresh
        self._every = every
        self._rests = rests
        self._names: frozenset[str] = frozenset()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        # Again and again: the wait_for of Python 3.11, which redis-py uses, can swallow a cancellation.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.05)

    async def names(self, timeout: float) -> frozenset[str]:
        """The names of the last round that succeeded; waits up to `timeout` seconds, and only for the first round."""
        if not self._first.is_set() and timeout > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._first.wait()
        if not self._first.is_set():
            self.problem = AdapterError(Reason.TIMEOUT, "still looking through the keys for the first time")
        return self._names

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._names = frozenset(await self._refresh())
                self.problem = None
            except AdapterError as error:
                self.problem = error
            except Exception as error:  # noqa: BLE001 - a bug must show on the page, not end the search in silence
                self.problem = AdapterError(Reason.BUG, f"{type(error).__name__} while looking for names")
            self._first.set()
            # An error is looked at again soon: the server may have been starting.
            pause = min(self._every, 10) if self.problem else self._every
            waited = self.problem is not None and self.problem.reason in _WAITED
            await asyncio.sleep(max(pause, (time.monotonic() - started) * (1 if waited else self._rests)))
