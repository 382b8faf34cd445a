"""The parts of the RabbitMQ adapter that need no broker."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskq_exporter_celery.follower import Follower
from taskq_exporter_celery.on_amqp.frames import Deliveries, Frame, FrameError, Frames, declare_passive
from taskq_exporter_celery.on_amqp.held import LATE, held, nothing_held
from taskq_exporter_celery.on_amqp.queues import DELAYED, Queues, of_tasks
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.threaded import Batch, Message, ThreadedStream
from taskq_exporter_celery.worker_thread import WorkerThread

from taskq_exporter.api import AdapterError, Reason, Source, State


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivery(body: bytes, content_type: str = "application/json", cuts: int = 1) -> bytes:
    flags = 0xF000 if content_type else 0x7000
    told = bytes([len(content_type)]) + content_type.encode() if content_type else b""
    header = pack(">HHQH", 60, 0, len(body), flags) + told + b"\x05utf-8\0\0\0\0\1"
    size = max(-(-len(body) // cuts), 1)
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    method = pack(">HH", 60, 60) + b"\x01c" + bytes(9) + b"\x08celeryev\x0atask.multi"
    return frame(1, method) + frame(2, header) + b"".join(frame(3, part) for part in parts)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 4)), max_size=8),
    st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_messages_are_the_same_however_the_bytes_come(bodies: list[tuple[bytes, int]], sizes: list[int]) -> None:
    heartbeat = frame(8, b"", 0)
    data = heartbeat.join(delivery(body, cuts=cuts) for body, cuts in bodies)
    frames, deliveries, messages, i = Frames(), Deliveries(), [], 0
    while data:
        size = sizes[i % len(sizes)]
        messages += deliveries.take(frames.feed(data[:size]))[0]
        data, i = data[size:], i + 1
    assert messages == [Message("application/json", body) for body, _ in bodies]
    assert not frames.rest


def test_a_message_without_a_content_type() -> None:
    messages, others = Deliveries().take(Frames().feed(delivery(b"{}", "") + frame(1, pack(">HH", 50, 11) + b"rest")))
    assert messages == [Message("", b"{}")]
    assert [other.method for other in others] == [(50, 11)]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\0\0\x09\1" + bytes(8), frame(1, b"")[:-1] + b"x"]
)
def test_what_is_not_amqp_is_an_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        Frames().feed(data)


@pytest.mark.parametrize("payload", [b"", bytes(12), pack(">HHQH", 60, 0, 1, 0x8000)])
def test_a_header_that_is_cut_short_is_an_error(payload: bytes) -> None:
    with pytest.raises(FrameError):
        Deliveries().take([Frame(2, 1, payload)])


def test_a_name_with_other_letters_is_sent_by_its_bytes() -> None:
    (sent,) = Frames().feed(declare_passive(7, "grün"))
    assert (sent.channel, sent.method) == (7, (50, 10))
    assert sent.payload[6:12] == b"\x05gr\xc3\xbcn"


def test_a_missing_queue_is_looked_for_rarely_and_once_it_is_named() -> None:
    queues = Queues()
    named = {"a": 0.0, "b": 0.0}
    assert queues.due(named, None, 100, 60) == ["a", "b", DELAYED[-1]]
    queues.found("b")
    queues.missing("a", 100)
    queues.missing(DELAYED[-1], 100)
    assert queues.due(named, None, 101, 60) == ["b"]
    assert queues.due({**named, "a": 101.0}, None, 102, 60) == ["b"], "not at each scrape, however often it is named"
    assert queues.due({**named, "a": 101.0}, None, 103, 60) == ["b", "a"]
    assert queues.due(named, None, 160, 60) == ["b", "a"]
    assert queues.due(named, None, 701, 60) == ["b", "a", DELAYED[-1]]
    queues.found(DELAYED[-1])
    assert set(queues.due(named, None, 702, 60)) == {"a", "b", *DELAYED}
    assert queues.due({}, ["c"], 703, 60) == ["c"], "what is listed is all there is"


def test_a_queue_that_is_not_shown_to_us_is_left_alone_for_ten_minutes() -> None:
    queues = Queues()
    queues.refuse("a", 100)
    assert queues.due({}, ["a", "b"], 101, 60) == ["b"]
    assert queues.refused == ["a"]
    assert queues.due({}, ["a", "b"], 701, 60) == ["a", "b"]
    assert queues.refused == []


def test_queues_of_tasks() -> None:
    others = ["celeryev.1", "w1@h.celery.pidbox", "1.reply.celery.pidbox", "amq.gen-x", "celery_delayed_3", ""]
    assert [name for name in ("celery", "amq", "celery_delayed", *others) if of_tasks(name)] == [
        "celery",
        "amq",
        "celery_delayed",
    ]


async def test_a_thread_that_hangs_holds_nothing_up() -> None:
    thread, released = WorkerThread("test"), threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await thread.call(lambda: released.wait(30))
    begun = time.monotonic()
    await thread.aclose(lambda: None, released.set)
    assert time.monotonic() - begun < 20
    async with asyncio.timeout(20):
        while any(t.name == "taskq-exporter-test" for t in threading.enumerate()):
            await asyncio.sleep(0.01)


async def test_calls_run_in_order_and_hand_their_errors_on() -> None:
    thread, seen = WorkerThread("test"), list[int]()
    async with asyncio.timeout(20):
        await asyncio.gather(*(thread.call(lambda i=i: seen.append(i)) for i in range(5)))
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 // 0)
        await thread.aclose(lambda: seen.append(5), lambda: None)
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_a_bug_while_reading_ends_the_subscription_aloud() -> None:
    class Broken(ThreadedStream):
        lag = None

        def receive(self) -> Batch | None:
            raise RuntimeError

    thread = WorkerThread("test")
    stream = Broken(thread)
    try:
        async with asyncio.timeout(20):
            await thread.call(stream.pump)
            await asyncio.sleep(0)
            with pytest.raises(AdapterError, match="RuntimeError") as caught:
                await stream.read()
    finally:
        await thread.aclose(lambda: None, lambda: None)
    assert caught.value.reason is Reason.BUG


class Deaf:
    """A ledger that keeps nothing."""

    cursor: Any = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Followed:
    """A follower of events that are made here; the clock is simulated."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        source = Source(name="test", adapter="celery", url=lambda: "", options=CeleryOptions())
        ledger: Any = Deaf()
        self.follower = Follower(source, ledger, lambda: self.now)
        self.follower.resume()

    def send(self, kind: str, hostname: str = "w@h", **more: Any) -> None:
        self.now += 0.001
        event = {"type": kind, "hostname": hostname, "timestamp": self.now, "pid": 1, **more}
        self.follower.feed([[event]], lambda message: message)

    def deliver(self, uuid: str, queue: str, **more: Any) -> None:
        self.send("task-sent", "client@h", uuid=uuid, name="t", queue=queue, **more)
        self.send("task-received", uuid=uuid, name="t", **more)

    @property
    def held(self) -> Any:
        found = held(self.follower, self.now)
        return None if found is None else {queue: dict(counts) for queue, counts in found.items()}


def test_what_a_worker_holds_is_known_from_its_start() -> None:
    world = Followed()
    assert world.held is None
    world.send("worker-online", active=0, processed=0)
    assert world.held is None, "perhaps it sends no task events"
    eta = datetime.fromtimestamp(world.now + 600, UTC).isoformat()
    world.deliver("1", "emails")
    world.deliver("2", "emails", eta=eta)
    world.deliver("3", "orders", eta=eta, retries=1)
    world.deliver("4", "orders")
    assert world.held == {
        "emails": {State.RESERVED: 1, State.SCHEDULED: 1},
        "orders": {State.RETRY: 1, State.RESERVED: 1},
    }
    world.send("task-started", uuid="4")
    world.now += 700
    assert world.held == {"emails": {State.RESERVED: 2}, "orders": {State.RESERVED: 1}}
    (worker,) = world.follower.workers
    world.follower.workers.no_answer(worker, world.now, listens=True)
    assert world.held is None, "in its silence it may get more"
    world.send("worker-offline")
    assert world.held == {}, "the broker gives out again what it held"


def test_what_a_worker_held_before_we_came_is_not_guessed() -> None:
    world = Followed()
    world.send("worker-heartbeat", active=0, processed=7)
    world.deliver("1", "emails")
    assert world.held is None
    nothing_held(world.follower, world.now)
    assert world.held is None, "the API's word may be older than our following"
    world.now += LATE
    nothing_held(world.follower, world.now)
    assert world.held == {"emails": {State.RESERVED: 1}}
    world.follower.resume()
    assert world.held is None
