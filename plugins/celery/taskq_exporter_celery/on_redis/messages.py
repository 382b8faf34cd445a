"""What task messages say without their arguments, as kombu's Redis transport stores them. Verified with kombu 5.7.0."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import from_json

from taskq_exporter_celery.events import parse_time

_NAME_LENGTH = 512  # what is kept of each of a message's names
_BODY = b'{"body": "'


class Message(NamedTuple):
    """A task's message. Times are Unix seconds."""

    id: str
    task: str
    exchange: str
    routing_key: str
    eta: float | None
    retries: int
    enqueued: float | None  # as the header says that somebody adds
    beat: str  # the producer's name, where it marked the message as one of a schedule (Celery 5.7)


def parse_ready(value: bytes, header: str) -> Message:
    """What an entry of a queue's list says. The task's arguments stay unread.

    Args:
        value: The message in JSON.
        header: Where somebody wrote when it was sent, in Unix seconds or ISO 8601.

    Raises:
        ValueError: Where it is something else.
    """
    message = _without_body(value, 0)
    properties = message.get("properties") if isinstance(message, dict) else None
    delivery = properties.get("delivery_info") if isinstance(properties, dict) else None
    if not isinstance(delivery, dict):
        raise ValueError("not a message of kombu")
    return _message(message, delivery.get("exchange"), delivery.get("routing_key"), header)


def parse_held(value: bytes, header: str) -> Message:
    """What an entry of `unacked` says: `[message, exchange, routing_key]` in JSON, else as parse_ready."""
    try:
        message, exchange, routing_key = _without_body(value, 1)
    except TypeError as error:
        raise ValueError("not a message of kombu") from error
    return _message(message, exchange, routing_key, header)


def _without_body(value: bytes, start: int) -> Any:
    """The JSON with an empty body where it comes first, in base64: its end is the next quote. Else all of it."""
    body = start + len(_BODY)
    if value[start:body] == _BODY:
        try:
            return from_json(value[:body] + value[value.index(b'"', body) :])
        except ValueError:
            pass
    return from_json(value)


def _message(message: Any, exchange: Any, routing_key: Any, header: str) -> Message:
    try:
        headers, properties = message.get("headers") or {}, message.get("properties") or {}
        retries = headers.get("retries")
        return Message(
            _name(headers.get("id") or properties.get("correlation_id")),
            _name(headers.get("task")),
            _name(exchange),
            _name(routing_key),
            parse_time(headers.get("eta")),
            retries if isinstance(retries, int) else 0,
            _time(headers.get(header)),
            _name(headers.get("origin")) if headers.get("celery_beat_task") is True else "",
        )
    except (TypeError, AttributeError) as error:
        raise ValueError("not a message of kombu") from error


def _name(value: Any) -> str:
    return str(value or "")[:_NAME_LENGTH]


def _time(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return parse_time(value)
    return seconds if 0 < seconds < 1e11 else None
