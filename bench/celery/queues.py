"""Queues of a Celery application on Redis, made by kombu, and the least that reading them costs."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import hiredis
import redis
from kombu import Connection, Exchange, Queue
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

#: As kombu has them by default.
STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


def fill(port: int, database: int, count: int) -> list[str]:
    """Declare queues, each with a message of every priority step; their names. The database is emptied before."""
    names = [f"queue-{number:04d}" for number in range(count)]
    exchange = Exchange("shop", type="direct")
    with redis.Redis(port=port, db=database) as client:
        client.flushdb()
    with Connection(f"redis://127.0.0.1:{port}/{database}") as connection:
        producer = connection.Producer()
        for name in names:
            queue = Queue(name, exchange, routing_key=name)
            for priority in (0, 3, 6, 9):
                producer.publish([], exchange=exchange, routing_key=name, priority=priority, declare=[queue])
    return names


def _pack(*words: str) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub knows tuples of one word only
    return packed


class RawRead:
    """One pipelined round trip for the lengths of all lists of some queues: the commands are packed beforehand."""

    def __init__(self, port: int, database: int, queues: Sequence[str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()
        self._count = len(queues) * len(STEPS)
        self._commands = b"".join(_pack("LLEN", queue + step) for queue in queues for step in STEPS)
        self._socket.sendall(_pack("SELECT", str(database)))
        self._replies(1)

    def seconds(self) -> float:
        """How long one takes now."""
        began = time.perf_counter()
        self._socket.sendall(self._commands)
        lengths = self._replies(self._count)
        seconds = time.perf_counter() - began
        if any(length != 1 for length in lengths):
            raise RuntimeError("the queues are not as they were filled")
        return seconds

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _replies(self, count: int) -> list[object]:
        replies: list[object] = []
        while len(replies) < count:
            self._reader.feed(self._socket.recv(1 << 16))
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies


class Parsed(Collector):
    """The families of a page, for the library's own encoder."""

    def __init__(self, page: str) -> None:
        self._families = list(text_string_to_metric_families(page))
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def collect(self) -> Sequence[Metric]:
        """They are as they were parsed."""
        return self._families

    def seconds(self) -> float:
        """How long encoding them takes now."""
        began = time.perf_counter()
        generate_latest(self._registry)
        return time.perf_counter() - began
