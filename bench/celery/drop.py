"""The broker drops the subscriber under load: is it back at once, are the counters kept, and is the loss counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import redis
from prometheus_client.parser import text_string_to_metric_families

from bench.celery.subjects import Ours, total
from bench.celery.world import OURS, World, finished
from bench.process import scrape
from bench.report import Row, bar

RATE = 20_000
SECONDS = 14.0
#: Seconds that it hangs: longer than the server's 32 MB of buffer last.
FROZEN = 5.0
#: "At once": no back-off, though the process shares two cores with the load.
AT_ONCE = 1.0


def rows(world: World) -> Iterator[Row]:
    """Dropped by a command, and because it was too slow for the server's buffer."""
    yield from _dropped(world, "after CLIENT KILL", _kill)
    yield from _dropped(world, f"after it hung for {FROZEN:g} s", _freeze)


def _kill(client: redis.Redis, _: Ours) -> None:
    client.client_kill_filter(_type="pubsub")


def _freeze(client: redis.Redis, subject: Ours) -> None:
    subject.freeze()
    time.sleep(FROZEN)
    gone = not client.pubsub_numpat()
    subject.thaw()
    if not gone:
        raise RuntimeError("the server did not drop the subscriber")


def _dropped(world: World, name: str, drop: Callable[[redis.Redis, Ours], None]) -> Iterator[Row]:
    with Ours(world.port, OURS) as subject, redis.Redis(port=world.port) as client:
        world.load(OURS, seconds=2.5, rate=3000)
        subject.settle()
        first = scrape(subject.port)[1]
        load = world.start_load(OURS, rate=RATE, seconds=SECONDS)
        time.sleep(3)
        before = scrape(subject.port)[1]
        drop(client, subject)
        dropped = time.perf_counter()
        while not client.pubsub_numpat():
            if time.perf_counter() - dropped > 10:
                raise RuntimeError("it did not subscribe again")
            time.sleep(0.001)
        back = time.perf_counter() - dropped
        after = scrape(subject.port)[1]
        sent = finished(load)
        subject.settle()
        time.sleep(1)
        last = scrape(subject.port)[1]
    yield bar(f"subscribed again {name}", f"{back * 1000:.0f} ms", "", f"{AT_ONCE:g} s", back <= AT_ONCE)
    # What a source cannot tell for a moment is absent from the page then; at the end all must be there.
    fell = {*_fallen(before, after), *_fallen(after, last), *_fallen(before, last), *_gone(before, last)}
    value = f"{len(fell)}, one is {min(fell)}" if fell else "none"
    yield bar(f"counters that fell or went {name}", value, "", "none", not fell)
    counts = {kind: n - subject.count(first)[kind] for kind, n in subject.count(last).items()}
    lost = {kind: sent.tasks - n for kind, n in counts.items()}
    missed = total(last, "taskq_source_events_dropped_total", 'reason="missed"')
    value = f"{missed:,} starts; lost: {', '.join(f'{n:,} {kind}' for kind, n in lost.items())}"
    close = abs(missed - lost["started"]) <= 0.01 * lost["started"]
    yield bar(f"losses counted {name}", value, f"{sent.tasks:,} tasks", "the starts that were lost, ±1 %", close)


def _fallen(before: str, after: str) -> list[tuple[str, str]]:
    """Series of counters and histograms that became smaller."""
    now = _series(after)
    return [key for key, value in _series(before).items() if now.get(key, value) < value]


def _gone(before: str, after: str) -> set[tuple[str, str]]:
    """Series of counters and histograms that went."""
    return set(_series(before)) - set(_series(after))


def _series(page: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }
