"""What is read of a message, and what is none of the allocator's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from taskq_exporter_redis_pubsub.messages import MAX_BYTES, Allocated, Published, UndecodableError, naive_utc, read

NOW = 1767225600.0  # 2026-01-01T00:00:00Z
TASK = {"task_name": "send", "queue": "q", "priority": 5, "timestamp": "2025-12-31T23:59:59.500000"}
ALLOCATION = {"task_name": "send", "queue": "q", "allocated_at": "2025-12-31T23:59:59", "allocation_method": "direct"}


def said(channel: str, message: Any) -> Published | Allocated:
    return read(channel.encode(), json.dumps(message).encode(), NOW)


def test_a_task() -> None:
    assert said("tasks:q", TASK) == Published("q", "send", high=False, again=False, seconds=0.5)


def test_a_task_of_high_priority_is_published_again() -> None:
    high = {**TASK, "priority": 8}
    assert said("tasks:q", high) == Published("q", "send", high=True, again=False, seconds=0.5)
    assert said("tasks:priority:q", high) == Published("q", "send", high=True, again=True, seconds=0.5)


def test_a_queue_may_have_the_name_of_a_channel() -> None:
    message = said("tasks:priority:q", {**TASK, "queue": "priority:q"})
    assert isinstance(message, Published)
    assert (message.queue, message.again) == ("priority:q", False)


def test_an_allocation() -> None:
    assert said("worker:a:b", ALLOCATION) == Allocated("q", "send", "a:b", "direct", 1.0)


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        ("2026-01-01T00:00:05", 0.0),  # its clock is ahead
        ("2026-01-01T01:59:59+02:00", 1.0),
        ("2025-12-31T22:00:00", None),  # a wrong time zone: no message is kept for hours
        ("2026-01-01T05:00:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1767225599, None),
        (None, None),
    ],
)
def test_times(timestamp: Any, seconds: float | None) -> None:
    assert said("tasks:q", {**TASK, "timestamp": timestamp}).seconds == seconds


@pytest.mark.parametrize("priority", [None, "high", [9]])
def test_a_priority_that_is_none(priority: Any) -> None:
    message = said("tasks:q", {**TASK, "priority": priority})
    assert isinstance(message, Published)
    assert message.high is None


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        (b"tasks:q", b""),
        (b"tasks:q", b"\xff\xfe"),
        (b"tasks:q", b"[" * 100_000),
        (b"tasks:q", b"[]"),
        (b"tasks:q", b'"text"'),
        (b"tasks:q", json.dumps({**TASK, "data": "x" * MAX_BYTES}).encode()),
        (b"tasks:other", json.dumps(TASK).encode()),
        (b"tasks:\xff", json.dumps(TASK).encode()),
        (b"tasks:q", json.dumps({**TASK, "task_name": 7}).encode()),
        (b"tasks:q", json.dumps({**TASK, "task_name": "x" * 300}).encode()),
        (b"tasks:", json.dumps({**TASK, "queue": ""}).encode()),
        (b"worker:", json.dumps(ALLOCATION).encode()),
        (b"worker:w", json.dumps({**ALLOCATION, "queue": "\ud800"}).encode()),
        (b"worker:w", json.dumps({**ALLOCATION, "allocation_method": {}}).encode()),
    ],
)
def test_what_is_none_of_the_allocators(channel: bytes, payload: bytes) -> None:
    with pytest.raises(UndecodableError):
        read(channel, payload, NOW)


def test_naive_times_are_in_utc() -> None:
    assert naive_utc("2026-01-01T00:00:00") == naive_utc("2026-01-01T02:00:00+02:00") == NOW
