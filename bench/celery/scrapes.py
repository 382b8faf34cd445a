"""Latency of scrapes: by number of queues, against the least that it costs, and under load."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from statistics import median as middle

from bench.celery.queues import Parsed, RawRead, fill
from bench.celery.subjects import Ours, Theirs
from bench.celery.world import OURS, THEIRS, World, finished
from bench.process import scrape
from bench.report import Row, SkippedError, bar, median

RATE = 20_000
#: Scrapes for a 99th percentile, and seconds between them.
SCRAPES, EVERY = 200, 0.04
#: Times that the cost of a scrape is measured a round.
SAMPLES = 5


def rows(world: World) -> Iterator[Row]:
    """Scrapes of 10, 100 and 1,000 queues, and the bars on them."""
    for count in (10, 100, 1000):
        yield from _compare(world, count)
    yield _floor(world)
    yield _under_load(world)


def _compare(world: World, count: int) -> Iterator[Row]:
    """Both with 1,000 pairs of task and worker on their page."""
    name = f"scrape of {count:,} queues"
    with ExitStack() as stack:
        fill(world.port, OURS, count)
        queues = fill(world.port, THEIRS, count)
        ours = stack.enter_context(Ours(world.port, OURS))
        world.load(OURS, seconds=2.5, rate=3000)
        try:
            theirs = stack.enter_context(Theirs(world.port, THEIRS, queues))
        except SkippedError as error:
            yield Row(name, str(error), verdict="SKIPPED")
            return
        world.load(THEIRS, seconds=2.5, rate=3000)
        times: dict[int, list[float]] = {OURS: [], THEIRS: []}
        for _ in range(world.rounds):
            times[OURS].append(scrape(ours.port)[0] * 1000)
            times[THEIRS].append(scrape(theirs.port)[0] * 1000)
    less = middle(times[OURS]) < middle(times[THEIRS])
    yield bar(name, median(times[OURS], 1, " ms"), f"celery-exporter: {median(times[THEIRS], 0, ' ms')}", "less", less)


def _floor(world: World) -> Row:
    """Against one raw round trip for the same keys and encoding the same page."""
    queues = fill(world.port, OURS, 1000)
    ours: list[float] = []
    reads: list[float] = []
    encodings: list[float] = []
    with Ours(world.port, OURS) as subject, closing(RawRead(world.port, OURS, queues)) as raw:
        page = scrape(subject.port)[1]
        lengths = page.count('taskq_tasks{queue="queue-')
        if lengths < len(queues):
            raise RuntimeError(f"only {lengths} of {len(queues)} queues are on the page")
        parsed = Parsed(page)
        for _ in range(world.rounds * SAMPLES):
            ours.append(scrape(subject.port)[0] * 1000)
            reads.append(raw.seconds() * 1000)
            encodings.append(parsed.seconds() * 1000)
    least = middle(reads) + middle(encodings)
    ratio = middle(ours) / least
    against = f"raw read {median(reads, 1, ' ms')} + encoding {median(encodings, 1, ' ms')}"
    return bar(
        "scrape of 1,000 queues", f"{median(ours, 1, ' ms')}: {ratio:.2f} times", against, "at most 3 times", ratio <= 3
    )


def _under_load(world: World) -> Row:
    """99th percentiles in turn, idle and with 20,000 events a second; medians of the rounds."""
    fill(world.port, OURS, 100)
    idle: list[float] = []
    loaded: list[float] = []
    with Ours(world.port, OURS) as subject:
        world.load(OURS, seconds=2.5, rate=3000)
        for _ in range(world.rounds):
            subject.settle()
            idle.append(_p99(subject.port))
            load = world.start_load(OURS, rate=RATE, seconds=2 * SCRAPES * EVERY + 3)  # scrapes may be late
            time.sleep(1.5)
            loaded.append(_p99(subject.port))
            busy = load.poll() is None
            sent = finished(load)
            if not busy:
                raise RuntimeError("the load ended before the scrapes")
            if sent.rate < 0.99 * RATE:
                raise RuntimeError(f"the load was only {sent.rate:.0f} events a second")
    ratio = middle(loaded) / middle(idle)
    value = f"{median(loaded, 1, ' ms')}: {ratio:.2f} times"
    name = f"99th percentile of a scrape of 100 queues at {RATE:,} events a second"
    return bar(name, value, f"idle: {median(idle, 1, ' ms')}", "at most 3 times", ratio <= 3)


def _p99(port: int) -> float:
    """Milliseconds that 99 of 100 scrapes stay below, at a fixed pace."""
    times = []
    began = time.perf_counter()
    for number in range(SCRAPES):
        time.sleep(max(began + number * EVERY - time.perf_counter(), 0))
        times.append(scrape(port)[0] * 1000)
    return sorted(times)[math.ceil(0.99 * SCRAPES) - 1]
