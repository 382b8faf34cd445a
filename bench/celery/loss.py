"""Events lost at rates that do not wait for the subscriber."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.celery.subjects import Bare, Ours, Subject, Theirs
from bench.celery.world import LOOP, OURS, THEIRS, World, lost
from bench.load import Sent
from bench.report import Row, SkippedError, bar

RATE = 20_000
#: Seconds of a trial in the search for the loop's highest rate.
TRIAL = 10.0
TRIALS = 5


@dataclass(frozen=True)
class Trial:
    """What came of a load at a fixed rate."""

    sent: Sent
    lost: int
    alive: bool

    @property
    def text(self) -> str:
        """For people."""
        ended = "" if self.alive else ", as it ended"
        return f"{self.lost:,} of {self.sent.events:,} at {self.sent.rate:,.0f}/s{ended}"

    def kept(self, rate: float) -> bool:
        """Whether the load had the rate and nothing was lost."""
        return self.lost == 0 and self.sent.rate >= 0.99 * rate


def rows(world: World) -> Iterator[Row]:
    """All at 20,000 a second; ours at a share of what the loop can take."""
    seconds = 10.0 if world.quick else 60.0
    name = f"events lost at {RATE:,} a second for {seconds:g} s, 1 a message"
    loop = _trial(world, LOOP, RATE, seconds)
    ours = _trial(world, OURS, RATE, seconds)
    yield bar(name, ours.text, f"bare loop: {loop.text}", "0", ours.kept(RATE))
    try:
        yield Row(f"{name}, celery-exporter", _trial(world, THEIRS, RATE, seconds).text)
    except SkippedError as error:
        yield Row(f"{name}, celery-exporter", str(error), verdict="SKIPPED")
    highest = _highest(world, lossless=RATE if loop.lost == 0 else 0)
    yield Row("the bare loop's highest lossless rate", f"{highest:,.0f}/s", f"{TRIAL:g} s a trial")
    rate = 0.4 * highest
    ours = _trial(world, OURS, rate, seconds)
    yield bar(f"events lost at 0.4 of that for {seconds:g} s", ours.text, "", "0", ours.kept(rate))


def _trial(world: World, database: int, rate: float, seconds: float) -> Trial:
    makers: dict[int, type[Subject]] = {OURS: Ours, LOOP: Bare, THEIRS: Theirs}
    with makers[database](world.port, database) as subject:
        if database != LOOP:
            world.load(database, seconds=2.5, rate=3000)
            subject.settle()
        before = subject.counts()
        sent = world.load(database, rate=rate, seconds=seconds)
        subject.settle()
        return Trial(sent, lost(before, subject.counts(), sent), subject.alive())


def _highest(world: World, lossless: float) -> float:
    """Task events a second that the loop can take while it shares the machine with the load and the server."""
    everything = _trial(world, LOOP, float("inf"), TRIAL)
    if everything.lost == 0:  # no more can be sent here
        return everything.sent.rate
    too_many = everything.sent.rate
    for _ in range(2 if world.quick else TRIALS):
        rate = (lossless + too_many) / 2
        trial = _trial(world, LOOP, rate, TRIAL)
        if trial.lost == 0:
            lossless = trial.sent.rate
        else:
            too_many = rate
    return lossless
