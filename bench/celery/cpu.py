"""CPU seconds for 10,000 events, where the load is as fast as its subscriber."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median as middle

from bench.celery.subjects import Subject
from bench.celery.world import LOOP, OURS, THEIRS, World, lost
from bench.report import Row, bar, median

#: Tasks of a load; three events each.
TASKS = 40_000


def rows(world: World) -> Iterator[Row]:
    """Ours against the other exporter and the bare loop, with one and ten events a message."""
    with world.subjects() as subjects:
        for batch in (1, 10):
            costs: dict[int, list[float]] = defaultdict(list)
            missing: dict[int, int] = defaultdict(int)
            for _ in range(world.rounds):
                for database, subject in subjects:
                    cost, lacking = _measure(world, database, subject, batch)
                    costs[database].append(cost)
                    missing[database] += lacking
            name = f"CPU s per 10,000 events, {batch} a message"
            yield bar(f"{name}: events not counted", str(missing[OURS]), "", "0", missing[OURS] == 0)
            yield _compare(name, costs[OURS], costs[LOOP], "bare loop", 2.0)
            if THEIRS in costs:
                yield _compare(name, costs[OURS], costs[THEIRS], "celery-exporter", 0.1)
                if missing[THEIRS]:
                    yield Row(f"{name}: events that celery-exporter did not count", str(missing[THEIRS]))
            else:
                yield Row(f"{name} against celery-exporter", "celery-exporter cannot be had here", verdict="SKIPPED")


def _measure(world: World, database: int, subject: Subject, batch: int) -> tuple[float, int]:
    subject.settle()
    before = subject.counts()
    subject.settle()
    began = subject.cpu()
    sent = world.load(database, tasks=TASKS, batch=batch)
    subject.settle()
    cost = (subject.cpu() - began) / sent.events * 10_000
    return cost, lost(before, subject.counts(), sent)


def _compare(name: str, ours: list[float], theirs: list[float], against: str, most: float) -> Row:
    ratio = middle(ours) / middle(theirs)
    share = f"{ratio:.2f} times" if ratio >= 1 else f"{1 / ratio:.1f} times fewer"
    text = f"at most {most:g} times" if most >= 1 else f"at least {1 / most:g} times fewer"
    return bar(name, f"{median(ours)}: {share}", f"{against}: {median(theirs)}", text, ratio <= most)
