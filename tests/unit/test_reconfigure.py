"""Another configuration while it runs: what counts the same goes on, the rest comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import configured

from taskq_exporter.api import Outcome, QueueStats, Snapshot, Source, State
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render
from taskq_exporter.testing.page import Page


class Fake:
    """An adapter that tells what is done with it."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.open = 0
        self.ledgers: list[Any] = []
        self.following = 0
        self.most_following = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def connect(self, source: Source) -> AsyncIterator[str]:
        self.connected.append(source.url())
        self.open += 1
        try:
            yield source.url()
        finally:
            self.open -= 1

    async def collect(self) -> Snapshot:
        await self.gate.wait()
        assert self.open
        return Snapshot(queues=[QueueStats(name=name, tasks={State.READY: 1}) for name in ("a", "b")])

    async def follow(self, ledger: Any) -> None:
        self.ledgers.append(ledger)
        self.following += 1
        self.most_following = max(self.most_following, self.following)
        ledger.following()
        try:
            await asyncio.sleep(3600)
        finally:
            while not self.may_end.is_set():  # it does not end at once when it is cancelled
                try:
                    await self.may_end.wait()
                except asyncio.CancelledError:
                    continue
            self.following -= 1

    def source(self, name: str = "s", **core: Any) -> Any:
        async def collect() -> Snapshot:
            return await self.collect()

        async def follow(ledger: Any) -> None:
            await self.follow(ledger)

        hooks = {"connect": lambda source: self.connect(source), "collect": collect, "follow": follow}
        return configured(hooks, name=name, **core)


@pytest.fixture
async def fake() -> Fake:
    return Fake()


@pytest.fixture
async def exporter(fake: Fake) -> AsyncIterator[Exporter]:
    exporter = Exporter()
    exporter.add(fake.source())
    await exporter.gather()
    await until(lambda: fake.following == 1)
    for queue in ("a", "b"):
        fake.ledgers[0].finished(queue, "t", Outcome.FAILED, n=3)
    yield exporter
    await exporter.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def page_of(exporter: Exporter) -> Page:
    return Page((await render(exporter, await exporter.gather())).decode())


def failed(page: Page, queue: str, source: str = "s") -> float | None:
    labels = {"queue": queue, "source": source, "outcome": "failed"}
    return page.value("taskq_tasks_finished_total", **labels)


async def test_the_same_again_changes_nothing(exporter: Exporter, fake: Fake) -> None:
    runner, connected = exporter.runners["s"], list(fake.connected)
    changes = await exporter.apply([fake.source()])
    assert (changes.added, changes.changed, changes.removed) == ([], [], [])
    assert exporter.runners["s"] is runner
    assert failed(await page_of(exporter), "a") == 3
    assert fake.connected == connected
    assert len(fake.ledgers) == 1


@pytest.mark.parametrize(
    ("core", "seen"),
    [
        ({"annotations": {"team": "x"}}, 'taskq_source_annotations_info{label_team="x",source="s"} 1.0'),
        ({"objectives": [{"queue": "a", "start_within": 10, "ratio": 0.5}]}, "taskq_queue_objective_wait_seconds{"),
        ({"limits": {"queue": 1}, "min_interval": "1h", "series_ttl": "1h"}, ""),
    ],
)
async def test_what_is_the_cores_alone_takes_effect_without_a_new_client(
    exporter: Exporter, fake: Fake, core: dict[str, Any], seen: str
) -> None:
    connected = list(fake.connected)
    assert (await exporter.apply([fake.source(**core)])).changed == ["s"]
    page = await page_of(exporter)
    assert seen in page.text
    assert failed(page, "a") == 3
    assert fake.connected == connected
    assert len(fake.ledgers) == 1


async def test_what_the_adapter_is_given_takes_effect_and_counters_go_on(exporter: Exporter, fake: Fake) -> None:
    changes = await exporter.apply([fake.source(timeout=9, queues={"exclude": ["b"]}, url="fake://user:new@host")])
    assert changes.changed == ["s"]
    await until(lambda: len(fake.ledgers) == 2)
    fake.ledgers[1].finished("a", "t", Outcome.FAILED)
    fake.ledgers[1].finished("b", "t", Outcome.FAILED)
    page = await page_of(exporter)
    assert failed(page, "a") == 4
    assert failed(page, "b") is None
    assert len(page.values("taskq_tasks", queue="a")) == 1
    assert not page.values("taskq_tasks", queue="b")
    assert exporter.runners["s"].source.timeout == 9
    assert fake.connected[-2:] == ["fake://user:new@host"] * 2
    await until(lambda: fake.open == 2)  # the clients before are left
    assert page.value("taskq_source_follower_restarts_total", source="s") == 0


async def test_a_follower_begins_when_the_one_before_has_ended(exporter: Exporter, fake: Fake) -> None:
    fake.may_end.clear()
    await exporter.apply([fake.source(timeout=9)])
    await exporter.apply([fake.source(timeout=8)])
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert len(fake.ledgers) == 1
    fake.may_end.set()
    await until(lambda: len(fake.ledgers) == 2)
    await until(lambda: fake.following == 1)
    assert fake.most_following == 1


@pytest.mark.parametrize(
    "core",
    [
        {"url": "fake://user:hunter2@other"},
        {"task_labels": ["queue"]},
        {"buckets": {"run": [1]}},
        {"objectives": [{"queue": "a", "start_within": 9, "ratio": 0.5}]},  # a further bound
    ],
)
async def test_what_counts_something_else_starts_over(exporter: Exporter, fake: Fake, core: dict[str, Any]) -> None:
    runner = exporter.runners["s"]
    assert (await exporter.apply([fake.source(**core)])).changed == ["s"]
    assert exporter.runners["s"] is not runner
    assert failed(await page_of(exporter), "a") is None
    await until(lambda: len(fake.ledgers) == 2 and fake.following == 1)
    assert fake.most_following == 1
    await until(lambda: fake.open == 2)


async def test_what_went_is_off_the_page_at_once_and_its_collect_ends(exporter: Exporter, fake: Fake) -> None:
    fake.gate.clear()
    under_way = asyncio.create_task(page_of(exporter))
    await asyncio.sleep(0.05)
    other = Fake()
    changes = await exporter.apply([other.source("other")])
    assert (changes.added, changes.removed) == (["other"], ["s"])
    page = await page_of(exporter)
    assert not page.values("taskq_source_up", source="s")
    assert page.value("taskq_source_up", source="other") == 1
    fake.gate.set()
    assert (await under_way).value("taskq_source_up", source="s") == 1
    await until(lambda: fake.open == 0)
    assert fake.following == 0


async def test_what_comes_back_goes_on_from_its_checkpoint(tmp_path: Path, fake: Fake) -> None:
    exporter = Exporter(StateDir(tmp_path))
    try:
        exporter.add(fake.source())
        await until(lambda: fake.following == 1)
        fake.ledgers[0].finished("a", "t", Outcome.FAILED, n=3)
        fake.gate.clear()
        under_way = asyncio.create_task(page_of(exporter))  # it ends when another one counts under its name
        await asyncio.sleep(0.05)
        await exporter.apply([])
        assert not (await page_of(exporter)).values("taskq_source_up")
        fake.gate.set()
        await exporter.apply([fake.source()])
        await until(lambda: len(fake.ledgers) == 2)
        fake.ledgers[0].finished("a", "t", Outcome.FAILED, n=100)
        assert failed(await under_way, "a") == 3
        fake.ledgers[1].finished("a", "t", Outcome.FAILED)
        assert failed(await page_of(exporter), "a") == 4
        assert exporter.self_metrics.checkpoint_ok
    finally:
        await exporter.close()
    for queues, counted in (("*", 4), ("b", None)):  # a restart heeds another filter as a reload does
        again = Exporter(StateDir(tmp_path))
        again.add(fake.source(queues={"include": [queues]}))
        assert failed(await page_of(again), "a") == counted
        await again.close()


async def test_one_reload_changes_many_sources_at_one_moment(exporter: Exporter, fake: Fake) -> None:
    """A page has either all sources of before or all of after."""
    seen: set[frozenset[str]] = set()

    async def look() -> None:
        while True:
            seen.add(frozenset(report.name for report in await exporter.gather()))

    looking = asyncio.create_task(look())
    sets = [[f"{letter}{i}" for i in range(20)] for letter in "xyz"]
    for names in sets:
        await exporter.apply([fake.source(name) for name in names])
        while frozenset(names) not in seen:
            await asyncio.sleep(0.001)
    looking.cancel()
    assert seen <= {frozenset({"s"}), *map(frozenset, sets)}
