"""When the demo's producers send: rush hours and quiet ones, so that queues grow and drain."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

PERIOD = 60.0  # seconds: the first half is the rush hour


def beats(per_second: float) -> Iterator[int]:
    """Count from 0 for ever, at twice `per_second` in a rush hour and at a quarter of it in a quiet one."""
    start = time.monotonic()
    for number in itertools.count():
        yield number
        rush = (time.monotonic() - start) % PERIOD < PERIOD / 2
        time.sleep(1 / (per_second * (2 if rush else 0.25)))
