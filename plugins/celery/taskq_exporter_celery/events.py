"""Celery's event messages: from the bytes of kombu's envelope to events. Verified with Celery 5.7.0, kombu 5.7.0."""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
import yaml
from pydantic_core import from_json

Event = dict[str, Any]


class _YamlLoader(yaml.SafeLoader):
    """In Python: the loader in C crashes the process where YAML is nested deeply."""

    def flatten_mapping(self, node: Any) -> None:
        """Leave merge keys, which then are an error: nested ones grow without bound."""


_CALL = re.compile(r"([A-Za-z_]\w*)\(")
#: Text of a traceback from its last frame on; the first line that is not indented names the exception.
_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


#: Characters of a name or id; an event with a longer one is not counted, and a class name is cut.
NAME_LENGTH = 512
#: A larger body in YAML is not read: the parser takes some 7 microseconds a byte, in which nothing else happens.
MAX_YAML = 16 * 1024


class UndecodableError(ValueError):
    """Not an event in a form that is safe to read."""


def _yaml(data: bytes) -> Any:
    if len(data) > MAX_YAML:
        raise UndecodableError
    return yaml.load(data, _YamlLoader)  # noqa: S506 - a safe loader


def _json(data: bytes | str) -> Any:
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)  # slower, but takes lone surrogates, which a task's arguments may have


#: By content type; no other is tried: pickle runs code.
_PARSERS: dict[object, Callable[[bytes], Any]] = {
    "application/json": _json,
    "application/x-msgpack": lambda data: msgpack.unpackb(data, strict_map_key=False),
    "application/x-yaml": _yaml,
}


def decode(payload: bytes) -> Sequence[Any]:
    """The events of one message; a worker sends the events of one loop turn as a list (`task.multi`).

    Raises:
        UndecodableError: Where it is no kombu message, or of a content type that is not read.
    """
    try:
        envelope = _json(payload)
        body = envelope["body"]
        if envelope["properties"].get("body_encoding") == "base64":
            body = a2b_base64(body)
        elif isinstance(body, str):
            body = body.encode()
        events = _PARSERS[envelope["content-type"]](body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError, msgpack.UnpackException):
        raise UndecodableError from None
    return events if type(events) is list else (events,)


def exception_name(event: Event) -> str:
    """The class name of a failed task's exception, or "" where it cannot be told from other text.

    `exception` is its repr, which a class may change, or `ExceptionWithTraceback()`: then the traceback tells.
    """
    text = str(event.get("exception") or "None")
    if text == "None":  # of a retry without a cause
        return ""
    if (called := _CALL.match(text)) and called[1] != "ExceptionWithTraceback":
        return called[1][:NAME_LENGTH]
    traceback = event.get("traceback")
    if isinstance(traceback, str):
        last_frame = traceback.rfind('\n  File "')
        if raised := _RAISED.search(traceback, last_frame + 1) if last_frame >= 0 else None:
            return raised[1].rpartition(".")[2][:NAME_LENGTH]
    return ""
