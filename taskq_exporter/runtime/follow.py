"""The follower of one source: kept running, restarted at once and then with back-off."""

from __future__ import annotations

import asyncio

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from taskq_exporter.adapters import Adapter
from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.runtime.connection import Connection
from taskq_exporter.runtime.failures import Failures, cancelled_by_us
from taskq_exporter.telemetry.instrumentation import instrumented_follower

__all__ = ["FollowerRunner"]

log = structlog.get_logger("taskq_exporter")

#: Seconds before the n-th restart in a row; the first is at once.
BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
#: A follower that has followed for so long (seconds) begins the row anew.
STEADY = 30.0


class FollowerRunner:
    """Runs an adapter's follow() for as long as the source is watched."""

    def __init__(self, adapter: Adapter, source: Source, ledger: SourceLedger, failures: Failures) -> None:
        self._adapter, self._source, self._ledger, self._failures = adapter, source, ledger, failures
        self._connection = Connection(lambda: adapter.connect(self._source))
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        #: Why it stopped, as the log says; "" while it follows or has not followed yet.
        self.stopped = ""
        self.restarts = 0

    @property
    def up(self) -> bool | None:
        """Whether it follows; None where the adapter has no follower, or it was not started."""
        if self._task is None:
            return None
        up = self._ledger.followed_at is not None
        if up and self.stopped:
            self.stopped = ""
            log.info("follower follows again", source=self._source.name)
        return up

    def start(self) -> None:
        """Start it, where the adapter has one."""
        if self._adapter.has("follow"):
            self._task = asyncio.create_task(self._run())

    def restart(self, source: Source) -> None:
        """Follow as `source` says from now on, on a new client; what was counted stays."""
        self._source = source
        if self._task is not None:
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._task.cancel()
            self._task = asyncio.create_task(self._run_alone())

    async def close(self) -> None:
        """End it, and leave its client."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2)
        self._ledger.followed_at = None
        await self._connection.close()

    async def _run_alone(self) -> None:
        """Run when the one before has ended: two of them would count twice."""
        while self._ending:
            await asyncio.wait(self._ending)
        self._connection.abandon()
        await self._run()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        unbind_contextvars("request_id")  # it outlives the request that started it
        bind_contextvars(source=self._source.name)
        failed = 0
        while True:
            begun = clock()
            self._ledger.followed_at = None
            error: BaseException = AdapterError(Reason.PROTOCOL, "the follower ended")
            try:
                async with asyncio.timeout(self._source.timeout):
                    client = await self._connection.client()
                with instrumented_follower(self._source.name, self._adapter.name, self._ledger):
                    await self._adapter.follow(self._source, client, self._ledger)
            except asyncio.CancelledError as cancelled:
                if cancelled_by_us():
                    raise
                error = cancelled
            except Exception as raised:  # noqa: BLE001 - a follower that ends for any reason is restarted
                error = raised
            steady = self.up and clock() - begun > STEADY
            failed = 0 if steady else failed + 1
            self._ledger.followed_at = None
            expected = self._failures.take(error, "follow")
            if steady:
                self._failures.recovered("follow")
            if str(expected) != self.stopped:
                self.stopped = str(expected)
                log.warning(
                    "follower stopped", source=self._source.name, reason=expected.reason.value, error=self.stopped
                )
            self.restarts += 1
            self._connection.abandon()
            await asyncio.sleep(BACKOFF[min(max(failed - 1, 0), len(BACKOFF) - 1)])
