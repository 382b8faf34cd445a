"""Celery's events through kombu: a consumer as that of `celery events`, without its decoding."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import kombu

from taskq_exporter.api import Source
from taskq_exporter_celery.on_kombu.link import Link, errors, own_name
from taskq_exporter_celery.threaded import Batch, Message, ThreadedStream
from taskq_exporter_celery.worker_thread import WorkerThread

#: Seconds to wait for events, and to gather them.
WAIT, GATHER = 0.5, 0.1
#: Most messages of a batch.
MANY = 500


class Stream(ThreadedStream):
    """A subscription on a connection of its own."""

    #: No transport tells.
    lag = None

    def __init__(self, thread: WorkerThread, link: Link, source: Source) -> None:
        super().__init__(thread)
        self._link = link
        self._exchange = source.options.event_exchange
        self._name = f"celeryev.{own_name(source)}"
        self._queue: Any = None
        self._messages: list[Message] = []

    def open(self) -> None:
        """Subscribe. Raises AdapterError."""
        connection = self._link.open()
        with errors():
            # As celery.events.event.get_exchange decides.
            kind = "fanout" if connection.transport.driver_type == "gcpubsub" else "topic"
            exchange = kombu.Exchange(self._exchange, type=kind)
            queue = kombu.Queue(self._name, exchange, routing_key="#", auto_delete=True, durable=False)
            channel = connection.channel()
            self._queue = queue.bind(channel)
            self._queue.declare()
            kombu.Consumer(channel, [self._queue], on_message=self._came_in, no_ack=True, auto_declare=False).consume()
        self.commands += 2

    def receive(self) -> Batch | None:
        """What has come."""
        connection = self._link.open()
        until = time.monotonic() + WAIT
        with errors():
            while len(self._messages) < MANY and (left := until - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=GATHER if self._messages else left)
                except TimeoutError:
                    if self._messages:
                        break
        if not self._messages:
            return None
        messages, self._messages = self._messages, []
        return Batch(messages)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._queue is not None:
            with suppress(Exception):  # the broker may be gone
                self._queue.purge()
                self._queue.delete()
        self._link.close()

    def _came_in(self, message: Any) -> None:
        body = message.body
        data = body.encode() if isinstance(body, str) else bytes(body)
        self._messages.append(Message(str(message.content_type), data))


@asynccontextmanager
async def subscribe(source: Source) -> AsyncIterator[Stream]:
    """A subscription to the events of the source's broker.

    Raises:
        AdapterError: As `errors` says.
    """
    thread = WorkerThread("events")
    stream = Stream(thread, Link(source), source)
    try:
        await thread.call(stream.open)
        thread.submit(stream.pump)
        yield stream
    finally:
        stream.stop()
        await thread.aclose(stream.close, lambda: None)
