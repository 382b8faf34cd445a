"""Celery's events from RabbitMQ, in batches: a thread reads the socket, the event loop takes what has come.

Verified with RabbitMQ 3.10.8, Celery 5.7.0 and py-amqp 5.4.2.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter_celery.on_amqp.errors import errors
from taskq_exporter_celery.on_amqp.frames import (
    CANCEL,
    DECLARE_OK,
    Deliveries,
    Frame,
    declare_passive,
    declared,
)
from taskq_exporter_celery.on_amqp.link import Link
from taskq_exporter_celery.threaded import Batch, ThreadedStream
from taskq_exporter_celery.worker_thread import WorkerThread

#: Seconds between looks at our queue: they show a dead connection, and how far behind we are.
PING_EVERY = 0.5
#: Bytes of events that wait in the broker; it drops the oldest of what is more. Some 100,000 events.
MAX_BYTES = 64 * 1024 * 1024
#: Seconds to let more come after few frames: each wake-up costs as much as some events.
GATHER = 0.01
FEW = 1_000
#: Seconds after which the broker gives us up where we fall silent: our looks at the queue come more often.
HEARTBEAT = 30


class Stream(ThreadedStream):
    """A subscription on a connection of its own."""

    def __init__(self, thread: WorkerThread, link: Link, exchange: str, timeout: float) -> None:
        super().__init__(thread)
        self._link, self._exchange, self._timeout = link, exchange, timeout
        self._queue = f"celeryev.taskq-exporter-{uuid.uuid4()}"
        # the thread's
        self._channel: Any = None
        self._deliveries = Deliveries()
        self._looked = 0.0  # when we last looked at our queue
        self._unanswered = False
        self._heard = 0.0  # when anything came
        # the event loop's
        self._caught_up = time.monotonic()
        self._roundtrip = 0.0

    @property
    def lag(self) -> float:
        """How many seconds of messages wait to be read: at most since all had been read."""
        return max(time.monotonic() - self._caught_up - PING_EVERY, self._roundtrip)

    def answered(self, answer: tuple[float, int]) -> None:
        """When we looked at our queue, and how many messages were in it."""
        looked, left = answer
        if not left:
            self._caught_up, self._roundtrip = looked, time.monotonic() - looked

    # --- in the thread

    def open(self) -> None:
        """Subscribe: a queue of our own, which goes with the connection, bound to the exchange of events.

        Raises:
            AdapterError: Those of a connection; permission and schema, with what is missing.
        """
        self._link.open()
        self._channel = self._link.channel()
        with errors("declare a queue celeryev.taskq-exporter-…"):
            self._channel.queue_declare(
                self._queue,
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length-bytes": MAX_BYTES, "x-queue-type": "classic"},
            )
        try:
            self._bind()
        except AdapterError as error:
            if error.reason is not Reason.SCHEMA:
                raise
            self._declare_exchange()
            self._bind()
        with errors("consume from a queue celeryev.taskq-exporter-…"):
            self._channel.basic_consume(self._queue, no_ack=True, exclusive=True)
        self.commands += 4
        self._heard = time.monotonic()

    def _bind(self) -> None:
        with errors(f"bind a queue to the exchange {self._exchange}"):
            self._channel.queue_bind(self._queue, self._exchange, "#")

    def _declare_exchange(self) -> None:
        """As a worker does when it starts."""
        try:
            with errors(f"declare the exchange {self._exchange}"):
                self._channel.exchange_declare(self._exchange, "topic", durable=True, auto_delete=False)
        except AdapterError as error:
            if error.reason is Reason.PERMISSION:
                text = f"there is no exchange {self._exchange} yet: start a worker, or check event_exchange"
                raise AdapterError(Reason.SCHEMA, text) from None
            raise

    def receive(self) -> Batch | None:
        """What has come."""
        self._look()
        frames = self._link.read(PING_EVERY / 2)
        now = time.monotonic()
        if not frames:
            if self._unanswered and now - max(self._looked, self._heard) > self._timeout:
                raise AdapterError(Reason.TIMEOUT, f"no answer of the broker within {self._timeout:g} s")
            return None
        self._heard = now
        with errors("read events"):
            messages, others = self._deliveries.take(frames)
        if len(frames) < FEW:
            time.sleep(GATHER)
        return Batch(messages, self._answer(others))

    def _look(self) -> None:
        now = time.monotonic()
        if not self._unanswered and now - self._looked > PING_EVERY:
            self._looked, self._unanswered = now, True
            self._link.send(declare_passive(self._channel.channel_id, self._queue))
            self.commands += 1

    def _answer(self, others: Sequence[Frame]) -> tuple[float, int] | None:
        answer = None
        for frame in others:
            if frame.method == DECLARE_OK:
                with errors("read"):
                    answer, self._unanswered = (self._looked, declared(frame.payload)[0]), False
            elif frame.method == CANCEL or self._link.closed_channel(self._channel, frame):
                raise AdapterError(Reason.CONNECT, "the broker ended the subscription: somebody deleted its queue")
        return answer


@asynccontextmanager
async def subscribe(source: Source) -> AsyncIterator[Stream]:
    """A subscription to the events of the source's broker, on a connection of its own.

    Raises:
        AdapterError: connect, auth, timeout, busy; permission and schema, with what is missing.
    """
    thread = WorkerThread("events")
    link = Link(source.url(), source.options, source.timeout, heartbeat=HEARTBEAT)
    stream = Stream(thread, link, source.options.event_exchange, source.timeout)
    try:
        async with asyncio.timeout(source.timeout):
            await thread.call(stream.open)
        thread.submit(stream.pump)
        yield stream
    finally:
        stream.stop()
        await thread.aclose(link.close, link.interrupt)
