"""A stable share of the sources, so that several exporters carry them together. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` exporters, numbered from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str, hostname: str = "") -> Shard:
        """`I/N`, or `hostname/N` with the number at the end of the host's name, as pods of a StatefulSet have it.

        Raises ValueError with what to do.
        """
        match = re.fullmatch(r"(\d+|hostname)/(\d+)", text)
        if match is None:
            raise ValueError(f"{text!r} is not I/N or hostname/N, e.g. 0/3")
        index, count = match[1], int(match[2])
        if index == "hostname":
            number = re.search(r"-(\d+)$", hostname)
            if number is None:
                raise ValueError(f"the host's name {hostname!r} does not end in -NUMBER: give I/N")
            index = number[1]
        if int(index) >= count:
            raise ValueError(f"{index}/{count}: the first number is from 0 to {max(count - 1, 0)}")
        return cls(int(index), count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, source: str) -> bool:
        """Whether a source, by name, is of this share. With another `count`, as few as possible move."""
        return self.count == 1 or max(range(self.count), key=lambda i: _weight(i, source)) == self.index


def _weight(index: int, source: str) -> bytes:
    return blake2b(f"{index}/{source}".encode(), digest_size=8).digest()
