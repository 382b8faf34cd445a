"""Celery's event messages: from the bytes of kombu's envelope to events. Verified with Celery 5.7.0, kombu 5.7.0."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgpack  # type: ignore[import-untyped]
import orjson
import yaml
from pybase64 import b64decode

Event = dict[str, Any]


class _YamlLoader(yaml.SafeLoader):
    """In Python: the loader in C crashes the process where YAML is nested deeply."""

    def flatten_mapping(self, node: Any) -> None:
        """Leave merge keys, which then are an error: nested ones grow without bound."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Nested deeply, each bracket costs as much as all around it."""
        if self.flow_level >= MAX_YAML_DEPTH:
            raise UndecodableError
        super().fetch_flow_collection_start(TokenClass)


_CALL = re.compile(r"([A-Za-z_]\w*)\(")
#: Text of a traceback from its last frame on; the first line that is not indented names the exception.
_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


#: What JSON has for numbers; `int | float` would be made anew at each use.
NUMBER = (int, float)
#: Characters of a name or id; an event with a longer one is not counted, and a class name is cut.
NAME_LENGTH = 512
#: A larger body in YAML is not read: the parser takes some 7 microseconds a byte, in which nothing else happens.
MAX_YAML = 16 * 1024
#: Nor one whose brackets are nested more deeply; an event has an object in a list, and what a worker sends is flat.
MAX_YAML_DEPTH = 32


class UndecodableError(ValueError):
    """Not an event in a form that is safe to read."""


def _yaml(data: bytes) -> Any:
    if len(data) > MAX_YAML:
        raise UndecodableError
    return yaml.load(data, _YamlLoader)  # noqa: S506 - a safe loader


def _json(data: bytes | str) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data)  # slower, but takes lone surrogates, which a task's arguments may have


#: By content type; no other is tried: pickle runs code.
_PARSERS: dict[object, Callable[[bytes], Any]] = {
    "application/json": _json,
    "application/x-msgpack": lambda data: msgpack.unpackb(data, strict_map_key=False),
    "application/x-yaml": _yaml,
}


#: How kombu writes an envelope: the body first, in base64, so that its end is the next quote.
_BODY = b'{"body": "'
_BASE64 = b'"body_encoding": "base64"'
_JSON = b'"content-type": "application/json"'


def decode(payload: bytes) -> Sequence[Any]:
    """The events of one message; a worker sends the events of one loop turn as a list (`task.multi`).

    Raises:
        UndecodableError: Where it is no kombu message, or of a content type that is not read.
    """
    if payload.startswith(_BODY):
        end = payload.find(b'"', len(_BODY))
        # Unescaped quotes: these are keys of the envelope, whose other values are of no use here.
        if payload.find(_JSON, end) > 0 and payload.find(_BASE64, end) > 0:
            try:
                events = orjson.loads(b64decode(payload[len(_BODY) : end]))
            except ValueError:
                pass  # looked at again with more patience
            else:
                return events if type(events) is list else (events,)
    try:
        envelope = _json(payload)
        body = envelope["body"]
        if envelope["properties"].get("body_encoding") == "base64":
            body = b64decode(body)
        elif isinstance(body, str):
            body = body.encode()
        return decode_body(envelope["content-type"], body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UndecodableError from None


def decode_body(content_type: object, body: bytes) -> Sequence[Any]:
    """The events of a message's body.

    Raises:
        UndecodableError: Where it is of a content type that is not read, or is not what it says.
    """
    try:
        events = _PARSERS[content_type](body)
    except Exception:  # noqa: BLE001 - YAML's own constructors raise IndexError and AttributeError too
        raise UndecodableError from None
    return events if type(events) is list else (events,)


def exception_name(event: Event) -> str:
    """The class name of a failed task's exception, or "" where it cannot be told from other text.

    `exception` is its repr, which a class may change, or `ExceptionWithTraceback()`: then the traceback tells.
    """
    # Pools without processes send the Retry with its cause and when, others the cause alone (5.4 and 5.7).
    text = str(event.get("exception") or "None").removeprefix("Retry(Retry(...), ")
    if text == "None" or text.startswith("None, "):  # of a retry without a cause
        return ""
    if (called := _CALL.match(text)) and called[1] != "ExceptionWithTraceback":
        return called[1][:NAME_LENGTH]
    traceback = event.get("traceback")
    if isinstance(traceback, str):
        last_frame = traceback.rfind('\n  File "')
        if raised := _RAISED.search(traceback, last_frame + 1) if last_frame >= 0 else None:
            return raised[1].rpartition(".")[2][:NAME_LENGTH]
    return ""


def parse_time(text: object) -> float | None:
    """Unix seconds of an ISO 8601 time as Celery writes it, or None. One without an offset is UTC.

    Celery sends its own timezone along since version 4; one without is from `enable_utc`, which is UTC.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def is_name(value: object) -> TypeGuard[str]:
    """Whether a field is a name or an id that is short enough."""
    return type(value) is str and len(value) <= NAME_LENGTH


def is_queue(value: object) -> TypeGuard[str]:
    """Whether it is a name that a broker can be asked about: JSON can write half a surrogate pair, UTF-8 cannot."""
    if not is_name(value):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def duration(value: object) -> float | None:
    """A field as seconds; None where it is none, as a `runtime` may be."""
    return float(value) if isinstance(value, NUMBER) and 0 <= value < 1e11 else None


def retries(event: Event) -> int:
    """Which try of a task it is, from 0 on."""
    told = event.get("retries")
    return told if type(told) is int else 0
