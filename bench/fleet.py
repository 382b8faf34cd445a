"""Events of a fleet of Celery workers, byte for byte as Celery 5.7.0 and kombu 5.7.0 publish them.

The forms were taken from a real worker with the prefork pool: task events as a list under the routing key
`task.multi`, those of workers as one object.
"""

from __future__ import annotations

import time
from binascii import b2a_base64
from collections import deque
from collections.abc import Iterator
from secrets import token_hex

TASKS = 50
WORKERS = 20
#: Tasks that were received and have not ended; half of them run.
IN_FLIGHT = 500

_COMMON = b'{"hostname": "%b", "utcoffset": 0.0, "pid": %d, "clock": %d, '
_RECEIVED = (
    b'"uuid": "%b", "name": "%b", "args": "()", "kwargs": "{}", "root_id": "%b", "parent_id": null, '
    b'"retries": 0, "eta": null, "expires": null, "timestamp": %.7f, "type": "task-received"}'
)
_STARTED = b'"uuid": "%b", "timestamp": %.7f, "type": "task-started"}'
_SUCCEEDED = (
    b'"uuid": "%b", "result": "None", "runtime": 0.00022706699996888347, "timestamp": %.7f, "type": "task-succeeded"}'
)
_WORKER = (
    b'"freq": 2.0, "active": %d, "processed": %d, "loadavg": [0.83, 0.46, 0.25], "sw_ident": "py-celery", '
    b'"sw_ver": "5.7.0", "sw_sys": "Linux", "timestamp": %.7f, "type": "%b"}'
)
_HEAD = b'{"body": "'
_TAIL = (
    b'", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"hostname": "%b"}, '
    b'"properties": {"delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "%b"}, '
    b'"priority": 0, "body_encoding": "base64", "delivery_tag": "%b"}}'
)

#: Routing key and payload of a message.
Message = tuple[bytes, bytes]


class Worker:
    """One node, each on a host of its own."""

    def __init__(self, number: int) -> None:
        self.name = b"celery@worker-%02d" % number
        self.pid = 10_000 + number
        self.clock = 0
        self.active = 0
        self.processed = 0  # tasks that it began: Celery counts them when a pool process accepts them
        self.events: list[bytes] = []  # of the message that is not full yet

    def prefix(self) -> bytes:
        """What every event of it starts with."""
        self.clock += 1
        return _COMMON % (self.name, self.pid, self.clock)


class Fleet:
    """Makes the messages of workers that receive, start and finish tasks in turn.

    Args:
        batch: Events a message.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        run = token_hex(4)
        self._uuid = f"{run}-0000-4000-8000-%012x".encode()  # no other run has the same
        self._tag = f"{run}-0001-4000-8000-%012x".encode()
        self._names = [b"shop.tasks.task_%02d" % number for number in range(TASKS)]
        self._workers = [Worker(number) for number in range(WORKERS)]
        self._waiting: deque[tuple[Worker, bytes]] = deque()
        self._running: deque[tuple[Worker, bytes]] = deque()
        self._messages = 0
        #: Tasks made so far; each makes three events.
        self.tasks = 0

    def step(self, now: float) -> Iterator[Message]:
        """One more task is received, one starts and one succeeds."""
        number = self.tasks
        self.tasks += 1
        worker = self._workers[number % WORKERS]
        uuid, name = self._uuid % number, self._names[number // WORKERS % TASKS]
        self._waiting.append((worker, uuid))
        yield from self._say(worker, _RECEIVED % (uuid, name, uuid, now))
        if len(self._waiting) > IN_FLIGHT // 2:
            yield from self._start(now)
        if len(self._running) > IN_FLIGHT // 2:
            yield from self._end(now)

    def finish(self, now: float) -> Iterator[Message]:
        """Start and end what is left, and the messages that are not full."""
        while self._waiting:
            yield from self._start(now)
        while self._running:
            yield from self._end(now)
        for worker in self._workers:
            yield from self._flush(worker)

    def workers(self, kind: bytes, now: float) -> Iterator[Message]:
        """An event of each worker: b"worker-online", b"worker-heartbeat" or b"worker-offline"."""
        for worker in self._workers:
            yield from self._flush(worker)  # the counts are of what was told before
            body = worker.prefix() + _WORKER % (worker.active, worker.processed, now, kind)
            yield self._message(worker, kind.replace(b"-", b"."), body)

    def _start(self, now: float) -> Iterator[Message]:
        worker, uuid = self._waiting.popleft()
        self._running.append((worker, uuid))
        worker.active += 1
        worker.processed += 1
        yield from self._say(worker, _STARTED % (uuid, now))

    def _end(self, now: float) -> Iterator[Message]:
        worker, uuid = self._running.popleft()
        worker.active -= 1
        yield from self._say(worker, _SUCCEEDED % (uuid, now))

    def _say(self, worker: Worker, event: bytes) -> Iterator[Message]:
        worker.events.append(worker.prefix() + event)
        if len(worker.events) >= self._batch:
            yield from self._flush(worker)

    def _flush(self, worker: Worker) -> Iterator[Message]:
        if worker.events:
            body = b"[%b]" % b", ".join(worker.events)
            worker.events = []
            yield self._message(worker, b"task.multi", body)

    def _message(self, worker: Worker, routing_key: bytes, body: bytes) -> Message:
        self._messages += 1
        tail = _TAIL % (worker.name, routing_key, self._tag % self._messages)
        return routing_key, _HEAD + b2a_base64(body, newline=False) + tail


if __name__ == "__main__":
    fleet, began, messages = Fleet(1), time.perf_counter(), 0
    for _ in range(100_000):
        messages += sum(1 for _ in fleet.step(time.time()))
    print(f"{messages / (time.perf_counter() - began):.0f} messages a second")
