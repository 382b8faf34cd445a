"""A subscription whose connection a thread reads: the event loop takes what has come, in batches."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import Any, NamedTuple

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.events import decode_body
from taskq_exporter_celery.worker_thread import WorkerThread

#: Seconds to wait for events before read() returns none.
WAIT = 0.5
#: Messages read and not taken yet, beyond which they are left to the broker.
BACKLOG = 5_000


class Message(NamedTuple):
    """An event message, as far as it is read."""

    content_type: str
    body: bytes


class Batch(NamedTuple):
    """What came at once."""

    messages: Sequence[Message]
    #: Of which question it is the answer too; see answered().
    answer: Any = None
    error: AdapterError | None = None


class ThreadedStream(ABC):
    """Implements taskq_exporter_celery.broker.Subscription, but for lag; pump() runs in a thread."""

    def __init__(self, thread: WorkerThread) -> None:
        self._thread = thread
        #: Commands sent.
        self.commands = 0
        self._read = 0  # messages; written by the thread
        self._taken = 0  # messages; written by the event loop
        self._batches: deque[Batch] = deque()
        self._came = asyncio.Event()
        self._stop = False
        self._room = Event()

    @property
    @abstractmethod
    def lag(self) -> float | None:
        """How many seconds of messages wait to be read."""

    # --- on the event loop

    async def read(self) -> Sequence[Message]:
        """The messages that have come.

        Raises:
            AdapterError: Why the thread ended.
        """
        if self._batches:
            await asyncio.sleep(0)  # others have their turn
        else:
            self._came.clear()
            try:
                async with asyncio.timeout(WAIT):
                    await self._came.wait()
            except TimeoutError:
                return ()
        batch = self._batches.popleft()
        if batch.error is not None:
            raise batch.error
        self._taken += len(batch.messages)
        self._room.set()
        if batch.answer is not None:
            self.answered(batch.answer)
        return batch.messages

    def decode(self, message: Message) -> Sequence[Any]:
        """The events of a message."""
        return decode_body(message.content_type, message.body)

    def answered(self, answer: Any) -> None:  # noqa: B027 - only some streams ask
        """Take what receive() gave as an answer, once all messages before it were taken."""

    def stop(self) -> None:
        """End pump()."""
        self._stop = True
        self._room.set()

    # --- in the thread

    @abstractmethod
    def receive(self) -> Batch | None:
        """What has come; None where nothing came for a moment. Raises AdapterError."""

    def pump(self) -> None:
        """Read until stop() or an error, which read() raises."""
        try:
            while not self._stop:
                if self._read - self._taken > BACKLOG:
                    self._room.wait(WAIT)
                    self._room.clear()
                elif (batch := self.receive()) is not None:
                    self._read += len(batch.messages)
                    self._thread.post(self._take, batch)
        except AdapterError as error:
            self._thread.post(self._take, Batch((), None, error))
        except Exception as error:  # noqa: BLE001 - without a word, read() would wait for ever
            failed = AdapterError(Reason.BUG, f"{type(error).__name__} while reading events")
            self._thread.post(self._take, Batch((), None, failed))

    def _take(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._came.set()
