"""How long queues are: passive declares, many in one round trip. A queue that is missing costs one more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from taskq_exporter.api import AdapterError, Reason, sending
from taskq_exporter_celery.on_amqp.errors import LOCKED, NOT_FOUND, REFUSED, adapter_error, errors
from taskq_exporter_celery.on_amqp.frames import DECLARE_OK, declare_passive, declared
from taskq_exporter_celery.on_amqp.link import Link

#: Declares to send before their answers are read: more could fill both directions of the connection at once.
_SLICE = 500
#: How many may be refused before the rest is left for the next time.
_REFUSALS = 10
#: A name of AMQP has at most so many bytes.
NAME_BYTES = 255


class Size(NamedTuple):
    """Of one queue."""

    ready: int
    consumers: int | None


class No(Enum):
    """Why a queue has no size."""

    MISSING = NOT_FOUND
    #: Another connection's own.
    EXCLUSIVE = LOCKED
    #: RabbitMQ 4.2.6 and newer show it only to users with a right on it.
    REFUSED = REFUSED


class Sizes:
    """Reads on one connection, in its thread."""

    def __init__(self, link: Link, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._channel: Any = None  # kept, as RabbitMQ counts those that are opened
        #: Declares sent.
        self.commands = 0

    def read(self, queues: Sequence[str]) -> dict[str, Size | No]:
        """The size of each queue, of some perhaps only the next time. Connects where needed.

        Raises:
            AdapterError: Where the broker cannot be read at all.
        """
        was_open = self._link.is_open
        try:
            return self._read(queues)
        except AdapterError as error:
            if not was_open or error.reason is not Reason.CONNECT:
                raise
        # Closed since the last time, by a balancer to which it seemed idle, or by a broker that is back: once more.
        self._link.close()
        self._channel = None
        return self._read(queues)

    def _read(self, queues: Sequence[str]) -> dict[str, Size | No]:
        self._link.open()
        found: dict[str, Size | No] = {}
        rest = [queue for queue in dict.fromkeys(queues) if 0 < len(queue.encode()) <= NAME_BYTES]
        if not rest:  # nothing else would tell that the broker is gone
            with errors("use a channel"), sending(["basic.qos"], str):
                self._open().basic_qos(0, 1, False)
        while rest:
            self._open()
            with sending(rest[:_SLICE], "queue.declare passive {}".format):
                found |= self._slice(rest[:_SLICE])
            rest = [queue for queue in rest if queue not in found]
            refused = sum(size is No.REFUSED for size in found.values())
            if refused == len(found) > 0:  # as for a user without a right on any; each look stands in the broker's log
                return found | dict.fromkeys(rest, No.REFUSED)
            if refused >= _REFUSALS:
                return found
        return found

    def _open(self) -> Any:
        if self._channel is None:
            self._channel = self._link.channel()
        return self._channel

    def _slice(self, queues: Sequence[str]) -> dict[str, Size | No]:
        """The sizes of the first ones: up to one for which the broker closes the channel."""
        link, found = self._link, dict[str, Size | No]()
        channel = self._open()
        link.send(b"".join(declare_passive(channel.channel_id, queue) for queue in queues))
        self.commands += len(queues)
        until = time.monotonic() + self._timeout
        while len(found) < len(queues):
            for frame in link.read(max(until - time.monotonic(), 0.001)):
                if frame.channel == channel.channel_id and frame.method == DECLARE_OK:
                    with errors("read"):
                        found[queues[len(found)]] = Size(*declared(frame.payload))
                elif said := link.closed_channel(channel, frame):
                    self._channel = None
                    try:
                        found[queues[len(found)]] = No(said[0])
                    except ValueError:
                        raise adapter_error(*said, "look at a queue", of_channel=True) from None
                    return found
            if time.monotonic() > until:
                raise AdapterError(Reason.TIMEOUT, "the broker did not answer in time: look at its load and alarms")
        return found
