"""Fleets of short-lived workers, for days: what the exporter holds and shows stays bounded. The clock is simulated."""

from __future__ import annotations

import asyncio
import base64
import gc
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import orjson
import pytest
from taskq_exporter_celery import adapter as celery
from taskq_exporter_celery.events import decode
from taskq_exporter_celery.follower import Follower
from taskq_exporter_celery.workers import FIRST_BEAT

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Capability, Ledger, QueueStats, Snapshot, Source, State, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render
from taskq_exporter.schema import CAPPED_LABELS

DAY, WORKER_TTL = 86400.0, 600.0
WORKERS, NAMES, WAVES = 10_000, 5_000, 4  # of a day
QUEUES = ("celery", "emails", "images", "reports", "slow")
#: What may stand at 0 though it never happened: a (queue, task) is seen for the first time.
ZEROS = {
    "taskq_tasks_enqueued_total",
    "taskq_tasks_received_total",
    "taskq_tasks_started_total",
    "taskq_tasks_retried_total",
    'taskq_tasks_finished_total outcome="succeeded"',
    'taskq_tasks_finished_total outcome="failed"',
}


class Cluster:
    """A follower of the adapter in a real exporter; its events, its clock and its pages are the test's."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.exporter = Exporter(clock=lambda: self.now)
        self.follower: Follower
        self.ledger: Ledger
        self._clock = 0

    @hookimpl
    async def collect(self) -> Snapshot:
        return Snapshot(
            queues=[QueueStats(name=queue, tasks={State.READY: 0}) for queue in QUEUES],
            capabilities=[Capability(family="taskq_tasks", state=State.READY)],
        )

    @hookimpl
    async def follow(self, source: Source, ledger: Ledger) -> None:
        self.ledger = ledger
        self.follower = ledger.view = Follower(source, ledger, lambda: self.now)
        self.follower.resume()
        ledger.following()
        await asyncio.Event().wait()

    def send(self, host: str, *events: dict[str, Any]) -> None:
        """Events of one process in one message, as kombu puts it on the wire."""
        for event in events:
            self.now += 0.001
            self._clock += 1
            event |= {"hostname": host, "utcoffset": 0, "pid": 7, "clock": self._clock, "timestamp": self.now}
        body = orjson.dumps(events if len(events) > 1 else events[0])
        message = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": host},
            "properties": {"delivery_mode": 1, "priority": 0, "body_encoding": "base64"},
        }
        self.follower.feed([orjson.dumps(message)], decode)

    async def pass_time(self, seconds: float) -> None:
        """The follower looks at the clock, and the exporter's timer strikes."""
        self.now += seconds
        self.ledger.following()
        self.follower.sweep()
        await self.exporter.save()

    async def page(self) -> str:
        """What Prometheus reads."""
        text = (await render(self.exporter, await self.exporter.gather())).decode()
        assert 'taskq_source_up{source="shop"} 1.0' in text
        assert 'taskq_source_follower_up{source="shop"} 1.0' in text
        return text


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    it = Cluster()
    plugin = SimpleNamespace(
        options=celery.options,
        families=celery.families,
        collect=it.collect,
        follow=it.follow,
    )
    adapter = Adapters({"celery": plugin}).get("celery")
    config = SourceConfig.model_validate({"name": "shop", "adapter": "celery", "url": "redis://localhost:1"})
    it.exporter.add(ConfiguredSource(config, adapter, adapter.options()))
    while not it.exporter.runners["shop"].following:
        await asyncio.sleep(0)
    yield it
    await it.exporter.close()


def life(fleet: Cluster, i: int) -> None:
    """A pod that starts, works, and is gone: one in three says goodbye, one is killed, one sends no heartbeats."""
    host, beats, killed_at_work = f"celery@worker-{i}", i % 3 < 2, i % 60 == 1
    beat = {"freq": 2.0, "active": 0, "processed": 0, "loadavg": [1, 1, 1], "sw_ident": "py-celery", "sw_ver": "5.7.0"}
    sent = {"type": "task-sent", **call(i), "queue": QUEUES[i % 5], "routing_key": QUEUES[i % 5]}
    fleet.send(f"gen7@cron-{i}", sent)
    if beats:
        fleet.send(host, {"type": "worker-online", **beat})
    work = [{"type": "task-received", **call(i)}, {"type": "task-started", "uuid": f"uuid-{i}"}]
    fleet.send(host, *work, *(() if killed_at_work else (end(i),)))
    if i % 60 == 31:  # what was acknowledged late comes again
        again = [{"type": "task-received", **call(i - 30)}, {"type": "task-started", "uuid": f"uuid-{i - 30}"}]
        fleet.send(host, *again, end(i - 30))
    if beats and not killed_at_work:
        fleet.send(host, {"type": "worker-heartbeat", **beat, "processed": 2 if i % 60 == 31 else 1})
    if i % 3 == 0:
        fleet.send(host, {"type": "worker-offline", **beat, "processed": 1})


def call(i: int) -> dict[str, Any]:
    """What events say of a task; every day has names of its own."""
    uuid, name = f"uuid-{i}", f"app.task_{i // (WORKERS // NAMES)}"
    return {"uuid": uuid, "root_id": uuid, "name": name, "args": "()", "kwargs": "{}", "retries": 0, "eta": None}


def end(i: int) -> dict[str, Any]:
    """Success, or one of 300 exceptions."""
    if i % 7:
        return {"type": "task-succeeded", "uuid": f"uuid-{i}", "result": "None", "runtime": 0.5}
    return {"type": "task-failed", "uuid": f"uuid-{i}", "exception": f"Error{i % 300}('x')", "traceback": "Traceback"}


def values(page: str, label: str) -> set[str]:
    """The values of a label on a page, without what stands for none and for many."""
    found = {part.partition('"')[0] for part in page.replace("{", ",").split(f',{label}="')[1:]}
    return found - {"", "_other"}


def series(page: str) -> list[str]:
    return [line for line in page.splitlines() if 'source="shop"' in line]


def zeros(page: str) -> Iterator[str]:
    """Counters and histograms of tasks at 0, by family and outcome."""
    for line in series(page):
        labels = re.match(r"(taskq_tasks?_\w+_(?:total|count))\{(.*)\} 0\.0", line)
        if labels:
            outcome = re.search(r'outcome="\w+"', labels[2])
            yield f"{labels[1]} {outcome[0]}" if outcome else labels[1]


def held(*roots: object) -> int:
    """Bytes of all objects that can be reached, without code. tracemalloc would take four times as long."""
    seen: set[int] = set()
    total, found = 0, list(roots)
    while found:
        thing = found.pop()
        if id(thing) not in seen and not isinstance(thing, type | ModuleType | FunctionType):
            seen.add(id(thing))
            total += sys.getsizeof(thing)
            found += gc.get_referents(thing)
    return total


async def day(fleet: Cluster, begun: int) -> tuple[int, str, int]:
    """Four waves of workers; series at the peak, the page in the end, and bytes held in the end."""
    peak = 0
    for wave in range(WAVES):
        for i in range(WORKERS // WAVES):
            life(fleet, begun + wave * (WORKERS // WAVES) + i)
        await fleet.pass_time(15)
        page = await fleet.page()
        peak = max(peak, page.count("{source=") + page.count(',source="'))
        for label in ("queue", "task", "worker", "exception"):
            assert len(values(page, label)) <= CAPPED_LABELS[label], label
        assert len(values(page, "worker")) == CAPPED_LABELS["worker"]
        for _ in range(23):
            await fleet.pass_time(DAY / WAVES / 24)
    page = await fleet.page()
    used = held(fleet.exporter)
    for _ in range(WAVES):
        await fleet.pass_time(DAY / WAVES / 24)
    return peak, page, used


async def test_a_second_day_of_10000_workers_and_5000_tasks_costs_no_more_than_the_first() -> None:
    async with cluster() as fleet:
        peaks, pages, sizes = zip(*[await day(fleet, begun) for begun in (0, WORKERS)], strict=True)
    for first, second in (peaks, [len(series(page)) for page in pages], sizes):
        assert second == pytest.approx(first, rel=0.05)
    assert peaks[0] < 30_000
    for page in pages:
        assert len(values(page, "task")) == CAPPED_LABELS["task"]
        assert len(values(page, "exception")) == CAPPED_LABELS["exception"]
        assert not values(page, "worker"), "they are gone"
        assert "_created" not in page
        assert set(zeros(page)) <= ZEROS
        by_task = [line for line in series(page) if line.startswith(("taskq_tasks_", "taskq_task_"))]
        assert not [line for line in by_task if "worker=" in line or "hostname=" in line]


async def test_a_worker_that_only_task_events_told_of_is_forgotten_as_any_other() -> None:
    async with cluster() as fleet:
        life(fleet, 2)
        assert not values(await fleet.page(), "worker"), "a heartbeat may come, with more of its tasks"
        await fleet.pass_time(FIRST_BEAT + 1)
        assert values(await fleet.page(), "worker") == {"celery@worker-2"}
        await fleet.pass_time(WORKER_TTL - FIRST_BEAT - 2)
        assert values(await fleet.page(), "worker") == {"celery@worker-2"}
        await fleet.pass_time(2)
        page = await fleet.page()
        assert not values(page, "worker")
        assert not list(fleet.follower.workers)
        await fleet.pass_time(WORKER_TTL)
        assert not fleet.exporter.runners["shop"].names.known("worker")
    assert "taskq_workers_lost_total" not in page, "its silence means nothing"


async def test_a_task_of_many_names_counts_though_it_has_no_series_of_its_own() -> None:
    async with cluster() as fleet:
        for i in range(1_980):
            life(fleet, i)
        await fleet.pass_time(15)
        page = await fleet.page()
    for family in ("enqueued", "started", "finished"):
        lines = [line for line in series(page) if line.startswith(f"taskq_tasks_{family}_total{{")]
        again = 33 if family == "started" else 0
        assert sum(float(line.split()[-1]) for line in lines) == 1_980 + again
