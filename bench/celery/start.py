"""From the start of the process to its first good page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median as middle

from bench.celery.subjects import Ours, Theirs
from bench.celery.world import OURS, THEIRS, World
from bench.report import Row, SkippedError, bar, median


def rows(world: World) -> Iterator[Row]:
    """Ours is good when it reads and follows the broker; any page of the other is."""
    ours: list[float] = []
    theirs: list[float] = []
    name = "start to first good scrape"
    for _ in range(world.rounds):
        began = time.perf_counter()
        with Ours(world.port, OURS):
            ours.append(time.perf_counter() - began)
        try:
            began = time.perf_counter()
            with Theirs(world.port, THEIRS):
                theirs.append(time.perf_counter() - began)
        except SkippedError as error:
            yield Row(f"{name}, {median(ours, 2, ' s')}", str(error), verdict="SKIPPED")
            return
    faster = middle(ours) < middle(theirs)
    yield bar(name, median(ours, 2, " s"), f"celery-exporter: {median(theirs, 2, ' s')}", "sooner", faster)
