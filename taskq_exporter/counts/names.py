"""The label values that one source has used: caps, expiry, and what a queue that is gone was called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskq_exporter.schema import OTHER

__all__ = ["MAX_LENGTH", "Names"]

#: A longer label value is cut: a hostile name must not fill a page.
MAX_LENGTH = 256


class Names:
    """Admits label values up to a cap for each label; first come, first kept, until not seen for the label's TTL."""

    def __init__(self, caps: Mapping[str, int], ttls: Mapping[str, float], clock: Callable[[], float]) -> None:
        self._caps = caps
        self._ttls = ttls
        self._clock = clock
        self._seen: dict[str, dict[str, float]] = {label: {} for label in caps}
        self._lock = threading.Lock()  # pages are built in a thread while the follower counts
        self.overflow: dict[str, int] = {}

    def limit(self, caps: Mapping[str, int], ttls: Mapping[str, float]) -> None:
        """Set other caps and TTLs; what was admitted stays until its TTL."""
        self._caps, self._ttls = caps, ttls

    def admit(self, label: str, value: str) -> str:
        """Return `value` as it may stand on the page: made valid, cut, or `_other` where the label's cap is reached."""
        seen = self._seen.get(label)
        if seen is None:
            return clean(value)
        if value in seen:
            seen[value] = self._clock()
            return value
        if not value or value == OTHER:
            return value
        value = clean(value)
        with self._lock:
            if value not in seen and len(seen) >= self._caps[label]:
                self.overflow[label] = self.overflow.get(label, 0) + 1
                return OTHER
            seen[value] = self._clock()
        return value

    def known(self, label: str) -> tuple[str, ...]:
        """The admitted values of a label."""
        return tuple(self._seen[label])

    def expire(self) -> None:
        """Forget what was not seen for its label's TTL, which makes room under the cap."""
        now = self._clock()
        with self._lock:
            for label, ttl in self._ttls.items():
                seen = self._seen[label]
                for value in [value for value, at in seen.items() if now - at > ttl]:
                    del seen[value]

    def dump(self) -> dict[str, dict[str, float]]:
        """What a checkpoint keeps: names and when each was last seen."""
        with self._lock:
            return {label: dict(seen) for label, seen in self._seen.items() if label in ("queue", "scheduler") and seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned, within the caps."""
        for label, seen in state.items():
            for value, at in list(seen.items())[: self._caps.get(label, 0)]:
                self._seen[label][str(value)] = float(at)


def clean(value: str) -> str:
    """Valid UTF-8 without lone surrogates, at most MAX_LENGTH characters."""
    if len(value) <= MAX_LENGTH and value.isascii():
        return value
    return value[:MAX_LENGTH].encode("utf-8", "replace").decode("utf-8")
