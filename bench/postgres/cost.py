"""What a collect costs: however much has ended, and however much waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median as middle

from bench.postgres.subjects import Cost, Exporter, PlainCount
from bench.postgres.tables import RUNNING, options
from bench.postgres.world import LARGE, SMALL, World
from bench.report import Row, bar, median
from taskq_exporter.api import State

#: The backlog of the rows about one.
BACKLOG = 1_000_000
#: Jobs that end between two looks: 9.9 million in 30 days are so many in 15 s.
ENDED = 57
MOST_GROWTH = 1.5
CLOCKS = {"server": "CPU time of the server", "wall": "time"}


@dataclass
class _Costs:
    """What each thing cost in each round."""

    ours: dict[str, list[Cost]] = field(default_factory=dict)  # of a collect, by table
    looks: dict[str, list[Cost]] = field(default_factory=dict)  # of the follower
    plain: list[Cost] = field(default_factory=list)
    parallel: list[Cost] = field(default_factory=list)
    statements: Mapping[str, float] = field(default_factory=dict)


def history(world: World) -> Iterator[Row]:
    """Ours over the large table against ours over the small one and against counting all; both tables' live jobs are
    the same.
    """
    costs = _measure(world, (SMALL, LARGE), ready=world.size(100_000))
    sizes = f"{world.size(10_000_000):,}", f"{world.size(1_000_000):,}"
    for clock, name in CLOCKS.items():
        large, small = (_of(costs.ours[table], clock) for table in (LARGE, SMALL))
        growth = middle(large) / middle(small)
        yield bar(
            f"collect of {sizes[0]} jobs, {name}",
            f"{_ms(large)}: {growth:.2f} times",
            f"{sizes[1]} jobs: {_ms(small)}",
            f"at most {MOST_GROWTH:g} times",
            growth <= MOST_GROWTH,
        )
    yield from _cheaper(world, costs, f"collect of {sizes[0]} jobs", least=100)
    yield Row("its statements", ", ".join(f"{n} {s * 1000:.1f} ms" for n, s in costs.statements.items()))


def backlog(world: World) -> Iterator[Row]:
    """The same with ten times as many jobs that wait, which are more than are counted."""
    ready = world.size(BACKLOG)
    world.tables.wait_more(LARGE, ready - world.size(100_000))
    costs = _measure(world, (LARGE,), ready=ready)
    yield from _cheaper(world, costs, f"collect with {ready:,} that wait", least=50)
    yield Row("its statements", ", ".join(f"{n} {s * 1000:.1f} ms" for n, s in costs.statements.items()))


def _cheaper(world: World, costs: _Costs, what: str, *, least: int) -> Iterator[Row]:
    """The share of counting all that ours is. A smaller table's count is cheaper: no bar there."""
    for clock, name in CLOCKS.items():
        ours, plain = _of(costs.ours[LARGE], clock), _of(costs.plain, clock)
        times = middle(plain) / middle(ours)
        value, against = f"{_ms(ours)}: {times:.0f} times cheaper", f"count(*) by queue and state: {_ms(plain)}"
        if world.quick:
            yield Row(f"{what}, {name}", value, against)
        else:
            yield bar(f"{what}, {name}", value, against, f"at least {least} times cheaper", times >= least)
    for clock, name in CLOCKS.items():
        looks = _of(costs.looks[LARGE], clock)
        both = [a + b for a, b in zip(_of(costs.ours[LARGE], clock), looks, strict=True)]
        times = middle(_of(costs.plain, clock)) / middle(both)
        said = f"{_ms(looks)}; collect and look {_ms(both)}: {times:.0f} times cheaper"
        yield Row(f"a look of the follower, {name}", said)
    yield Row("count(*) by queue and state with parallel workers, time", _ms(_of(costs.parallel, "wall")))


def _measure(world: World, tables: Sequence[str], *, ready: int) -> _Costs:
    """All in turn, and what they say compared. Raises RuntimeError where it is wrong."""
    costs = _Costs({table: [] for table in tables}, {table: [] for table in tables})
    with ExitStack() as stack:
        ours = {t: stack.enter_context(Exporter(world.exporter, t, options(t))) for t in tables}
        plain = stack.enter_context(PlainCount(world.url, LARGE))
        parallel = stack.enter_context(PlainCount(world.url, LARGE, parallel=True))
        before = {table: exporter.finished for table, exporter in ours.items()}
        for _ in range(world.rounds):
            for table, exporter in ours.items():
                world.tables.finish(table, ENDED)
                collected, looked = exporter.measure()
                costs.ours[table].append(collected)
                costs.looks[table].append(looked)
            costs.plain.append(plain.measure())
            costs.parallel.append(parallel.measure())
        if (plain.count("queued"), plain.count("active")) != (ready, RUNNING):
            raise RuntimeError("the table is not as it was filled")
        for table, exporter in ours.items():
            _check(exporter, ready, exporter.finished - before[table], ENDED * world.rounds)
        costs.statements = ours[LARGE].snapshot.query_seconds
    return costs


def _check(exporter: Exporter, ready: int, finished: int, ended: int) -> None:
    """Raises RuntimeError where the exporter counted too little or too much."""
    if finished != ended:
        raise RuntimeError(f"{ended} jobs ended, {finished} were counted")
    if exporter.count(State.RUNNING) != RUNNING:
        raise RuntimeError(f"{RUNNING} jobs run, {exporter.count(State.RUNNING)} were counted")
    capped = any(queue.capped.get(State.READY) for queue in exporter.snapshot.queues)
    if exporter.count(State.READY) != ready and not (capped and exporter.count(State.READY) < ready):
        raise RuntimeError(f"{ready} jobs wait, {exporter.count(State.READY)} were counted")


def _of(costs: Sequence[Cost], clock: str) -> list[float]:
    return [cost.wall if clock == "wall" else cost.server for cost in costs]


def _ms(seconds: Sequence[float]) -> str:
    return median([1000 * one for one in seconds], digits=1, unit=" ms")
