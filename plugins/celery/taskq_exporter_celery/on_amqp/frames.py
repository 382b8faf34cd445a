"""The few frames of AMQP 0-9-1 that are many: deliveries, and the sizes of queues. Pure: bytes in, values out.

py-amqp takes some 100 microseconds for each; the rest of the protocol is left to it. Verified with RabbitMQ 3.10.8.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error
from typing import NamedTuple

from taskq_exporter_celery.threaded import Message

#: Kinds of frames.
METHOD, HEADER, BODY = 1, 2, 3
#: Methods: class and number.
CONNECTION_CLOSE, CHANNEL_CLOSE = (10, 50), (20, 40)
DECLARE, DECLARE_OK = (50, 10), (50, 11)
CANCEL, DELIVER = (60, 30), (60, 60)

_FRAME = Struct(">BHI")
_METHOD = Struct(">HH")
_COUNTS = Struct(">II")
_CODE = Struct(">H")
_SIZE = Struct(">Q")
_END = b"\xce"
_DELIVER = bytes((0, 60, 0, 60))
_MAX_FRAME = 1 << 24
_CONTENT_TYPE = 0x80  # in the first byte of the flags: the first property is there


class FrameError(ValueError):
    """Not AMQP."""


class Frame(NamedTuple):
    """One frame."""

    kind: int
    channel: int
    payload: bytes

    @property
    def method(self) -> tuple[int, int]:
        """Class and number of the method; (0, 0) of another frame."""
        return _METHOD.unpack_from(self.payload) if self.kind == METHOD else (0, 0)


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self, rest: bytes = b"") -> None:
        #: Bytes of a frame that is not complete.
        self.rest = rest

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete. Raises FrameError."""
        data = self.rest + data if self.rest else data
        frames, at, length = [], 0, len(data)
        while at + 8 <= length:
            kind, channel, size = _FRAME.unpack_from(data, at)
            if size > _MAX_FRAME:
                raise FrameError
            stop = at + 7 + size
            if stop >= length:
                break
            if data[stop] != 0xCE:
                raise FrameError
            frames.append(Frame(kind, channel, data[at + 7 : stop]))
            at = stop + 1
        self.rest = data[at:]
        return frames


class Deliveries:
    """Puts delivered messages together: a method, a header, and as many frames of the body as it says."""

    def __init__(self) -> None:
        self._content_type = ""
        self._missing = 0
        self._body: list[bytes] = []

    def take(self, frames: Iterable[Frame]) -> tuple[list[Message], list[Frame]]:
        """The messages that are complete, and the frames that belong to none. Raises FrameError."""
        messages, others = [], []
        for frame in frames:
            kind, _, payload = frame
            if kind == BODY:
                self._missing -= len(payload)
                if self._missing > 0:
                    self._body.append(payload)
                    continue
                if self._body:
                    payload = b"".join((*self._body, payload))
                    self._body = []
                messages.append(Message(self._content_type, payload))
            elif kind == HEADER:
                self._content_type, self._missing = _header(payload)
                if not self._missing:
                    messages.append(Message(self._content_type, b""))
            elif not payload.startswith(_DELIVER):
                others.append(frame)
        return messages, others


def _header(payload: bytes) -> tuple[str, int]:
    """Content type and size of the body."""
    try:
        (size,) = _SIZE.unpack_from(payload, 4)
        if not payload[12] & _CONTENT_TYPE:
            return "", size
        return payload[15 : 15 + payload[14]].decode("ascii", "replace"), size
    except (error, IndexError):
        raise FrameError from None


def declare_passive(channel: int, queue: str) -> bytes:
    """Ask for the size of a queue. Its name has at most 255 bytes."""
    name = queue.encode()
    arguments = b"\0\0" + bytes((len(name),)) + name + b"\1" + b"\0\0\0\0"
    return _FRAME.pack(METHOD, channel, 4 + len(arguments)) + _METHOD.pack(*DECLARE) + arguments + _END


def declared(payload: bytes) -> tuple[int, int]:
    """Messages that are ready, and consumers: of a DECLARE_OK. Raises FrameError."""
    try:
        return _COUNTS.unpack_from(payload, 5 + payload[4])
    except (error, IndexError):
        raise FrameError from None


def closed(payload: bytes) -> tuple[int, str]:
    """Code and text: of a CONNECTION_CLOSE or CHANNEL_CLOSE. Raises FrameError."""
    try:
        (code,) = _CODE.unpack_from(payload, 4)
        return code, payload[7 : 7 + payload[6]].decode("utf-8", "replace")
    except (error, IndexError):
        raise FrameError from None
