"""Memory over millions of events."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.celery.subjects import Bare, Ours, Subject, Theirs
from bench.celery.world import LOOP, OURS, THEIRS, World, finished, lost
from bench.process import scrape
from bench.report import Row, SkippedError, bar

EVENTS = 5_000_000
#: Enough to tell the others' growth.
FEWER = 500_000
QUICK = 300_000
MOST = 60.0
SCRAPE_EVERY = 5.0


def rows(world: World) -> Iterator[Row]:
    """The peak of resident memory above that at the start, with a scrape every 5 s."""
    events = QUICK if world.quick else EVENTS
    fewer = QUICK if world.quick else FEWER
    with Bare(world.port, LOOP) as subject:
        _, loop = _grow(world, LOOP, subject, events)
    with Ours(world.port, OURS) as subject:
        grown, text = _grow(world, OURS, subject, events)
    yield bar(f"memory over {events:,} events", text, f"bare loop: {loop}", f"at most {MOST:g} MB more", grown <= MOST)
    try:
        with Theirs(world.port, THEIRS) as subject:
            _, text = _grow(world, THEIRS, subject, fewer)
        yield Row(f"memory over {fewer:,} events, celery-exporter", text)
    except SkippedError as error:
        yield Row("memory, celery-exporter", str(error), verdict="SKIPPED")


def _grow(world: World, database: int, subject: Subject, events: int) -> tuple[float, str]:
    subject.settle()
    before = subject.counts()
    start = subject.memory()
    load = world.start_load(database, tasks=events // 3)
    while load.poll() is None:
        time.sleep(SCRAPE_EVERY)
        if not isinstance(subject, Bare):
            scrape(subject.port)
    sent = finished(load)
    subject.settle()
    missing = lost(before, subject.counts(), sent)
    if missing:
        raise RuntimeError(f"{subject.name} lost {missing} events")
    grown = subject.peak() - start
    return grown, f"{start:.0f} MB, at most {grown:.1f} MB more, {subject.memory():.0f} MB at the end"
