"""The load, as a program of its own: publishes a fleet's events to Redis and prints what it sent.

    python -m bench.load PORT DATABASE --tasks 100000              as fast as the subscriber reads
    python -m bench.load PORT DATABASE --seconds 60 --rate 20000   at a fixed rate, whether or not it is read
    python -m bench.load PORT DATABASE --seconds 10 --rate inf     as fast as the server takes it

All workers come online first, send a heartbeat every 2 s, and go offline after the last event of every task.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from bench.fleet import Fleet, Message

HEARTBEAT_EVERY = 2.0
#: Bytes that may wait in the server for the subscriber, where its speed is the load's.
BACKLOG = 1 << 20
#: Messages to send before their replies are read.
PIPELINE = 200
#: Seconds between the parts of a fixed rate.
TICK = 0.005


@dataclass
class Sent:
    """What a run sent."""

    tasks: int = 0  # each was received, started and succeeded
    messages: int = 0
    undelivered: int = 0  # messages that nobody was subscribed to
    seconds: float = 0.0

    @property
    def events(self) -> int:
        """Task events."""
        return 3 * self.tasks

    @property
    def rate(self) -> float:
        """Task events a second."""
        return self.events / self.seconds


class Publisher:
    """A connection that publishes in pipelines."""

    def __init__(self, port: int, database: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._channel = b"/%d.celeryev/" % database
        self._parts: list[bytes] = []
        self.sent = Sent()

    def publish(self, messages: Iterable[Message]) -> None:
        """Take messages; send them where they are many."""
        for routing_key, payload in messages:
            channel = self._channel + routing_key
            self._parts.append(
                b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(payload), payload)
            )
        if len(self._parts) >= PIPELINE:
            self.flush()

    def flush(self) -> None:
        """Send what is left, and read the replies: how many subscribers got each."""
        count = len(self._parts)
        self._socket.sendall(b"".join(self._parts))
        self._parts.clear()
        replies = self._read(count)
        self.sent.messages += count
        self.sent.undelivered += replies.count(b":0\r\n")

    def backlog(self) -> int:
        """Bytes that wait in the server for subscribers."""
        self._socket.sendall(b"*4\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$4\r\nTYPE\r\n$6\r\nPUBSUB\r\n")
        data = b""
        while not data.endswith(b"\n\r\n"):
            data += self._socket.recv(1 << 16)
        return sum(int(size) for size in re.findall(rb" omem=(\d+)", data))

    def _read(self, lines: int) -> bytes:
        data = b""
        while data.count(b"\n") < lines:
            part = self._socket.recv(1 << 16)
            if not part:
                raise ConnectionError("the server closed the load's connection")
            data += part
        if b"-" in data:
            raise RuntimeError(f"the server refuses: {data[data.index(b'-') :][:200]!r}")
        return data


def run(publisher: Publisher, *, batch: int, tasks: float, seconds: float, rate: float | None) -> Sent:
    """Send the load.

    Args:
        publisher: Where to.
        batch: Events a message.
        tasks: Stop after so many.
        seconds: Stop after so long.
        rate: Task events a second; None for as fast as the subscriber reads.
    """
    fleet = Fleet(batch)
    publisher.publish(fleet.workers(b"worker-online", time.time()))
    publisher.flush()
    began = now = time.perf_counter()
    heartbeat = began + HEARTBEAT_EVERY
    while fleet.tasks < tasks and now < began + seconds:
        due = tasks if rate is None else min((now + TICK - began) * rate / 3, tasks)
        at, stop = time.time(), fleet.tasks + PIPELINE
        while fleet.tasks < due and fleet.tasks < stop:
            publisher.publish(fleet.step(at))
        publisher.flush()
        if now >= heartbeat:
            publisher.publish(fleet.workers(b"worker-heartbeat", time.time()))
            heartbeat += HEARTBEAT_EVERY
        while rate is None and publisher.backlog() > BACKLOG:
            time.sleep(0.001)
        now = time.perf_counter()
        if fleet.tasks >= due:
            time.sleep(TICK)
            now = time.perf_counter()
    publisher.publish(fleet.finish(time.time()))
    publisher.publish(fleet.workers(b"worker-heartbeat", time.time()))
    publisher.publish(fleet.workers(b"worker-offline", time.time()))
    publisher.flush()
    publisher.sent.tasks = fleet.tasks
    publisher.sent.seconds = time.perf_counter() - began
    return publisher.sent


def main() -> None:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(description="Publish the events of a fleet of Celery workers.")
    parser.add_argument("port", type=int)
    parser.add_argument("database", type=int)
    parser.add_argument("--batch", type=int, default=1, help="events a message")
    parser.add_argument("--tasks", type=float, default=float("inf"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--rate", type=float, help="task events a second; inf: as many as the server takes")
    arguments = parser.parse_args()
    if min(arguments.tasks, arguments.seconds) == float("inf"):
        parser.error("one of --tasks and --seconds is needed, or it would not end")
    publisher = Publisher(arguments.port, arguments.database)
    sent = run(publisher, batch=arguments.batch, tasks=arguments.tasks, seconds=arguments.seconds, rate=arguments.rate)
    print(json.dumps(asdict(sent)))


if __name__ == "__main__":
    main()
