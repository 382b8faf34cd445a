"""The page for people at /: what it says, how it is sorted, and what it never lets through."""

from __future__ import annotations

import asyncio
import gzip
import html
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import (
    AdapterError,
    Capability,
    Finding,
    Problem,
    QueueStats,
    Reason,
    SchedulerStats,
    Snapshot,
    State,
    WorkerState,
    WorkerStats,
    hookimpl,
)
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.view.overview import QueueOverview, SourceOverview
from taskq_exporter.web import people
from taskq_exporter.web.app import make_app
from taskq_exporter.web.page.document import document
from taskq_exporter.web.page.view import View

URL = "x://user:hunter2@h"
COLUMNS = ("ready", "running", "scheduled", "failed", "oldest", "longest", "consumers", "rate")


@pytest.fixture
async def exporter(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exporter]:
    monkeypatch.setattr(people, "MAX_AGE", 0.0)  # each page looks anew
    monkeypatch.setattr(people, "PATIENCE", 10.0)
    keep_secret(URL)
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, said: Snapshot | AdapterError | Any, **core: Any) -> None:
    """A source that says this; a function says it itself."""

    async def collect() -> Snapshot:
        if isinstance(said, AdapterError):
            raise said
        return said if isinstance(said, Snapshot) else await said()

    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": URL, **core})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def page(exporter: Exporter, address: str = "/") -> str:
    async with TestClient(TestServer(make_app(exporter))) as client:
        response = await client.get(address)
        assert response.status == 200
        return await response.text()


def text(part: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", part)).split())


def section(page: str, source: str) -> str:
    return re.findall(rf'<section id="source-{re.escape(source)}".*?</section>', page, re.S)[0]


def rows(page: str) -> dict[str, dict[str, str]]:
    """The cells by queue and column, in the order of the page."""
    found = re.findall(r"<tr[^>]*><th scope=\"row\"><span>(.*?)</span>.*?</th>(.*?)</tr>", page)
    return {
        html.unescape(name): dict(zip(COLUMNS, map(text, re.findall(r"<td.*?</td>", cells)), strict=False))
        for name, cells in found
    }


def queue(name: str, **facts: Any) -> QueueStats:
    return QueueStats(name=name, **facts)


async def test_each_source_tells_state_adapter_server_and_last_collect(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    problem = Problem(reason=Reason.PERMISSION, part="workers", message="hunter2 may not <look>")
    add(exporter, "shop", Snapshot(server="redis", server_version="7.2"), annotations={"team": "growth"})
    add(exporter, "half", Snapshot(server="redis", problems=[problem]))
    add(exporter, "gone", AdapterError(Reason.CONNECT, "refused <by> the server with hunter2"))
    said = await page(exporter)
    shop = text(section(said, "shop"))
    assert "shop ● up fake redis 7.2 read just now in" in shop
    assert "team: growth" in shop
    half = text(section(said, "half"))
    assert "◐ partial" in half
    assert "cannot read workers: permission: *** may not <look> `taskq-exporter grants` prints" in half
    assert "▲ down fake never read since the exporter started connect: refused <by> the server with ***" in text(
        section(said, "gone")
    )
    assert said.index('id="source-gone"') < said.index('id="source-shop"'), "what is down stands first"
    assert "<title>1 of 3 sources down, 0 queues" in said
    assert "hunter2" not in said
    add(exporter, "late", gate.wait)
    monkeypatch.setattr(people, "PATIENCE", 0.01)
    assert "○ starting" in section(await page(exporter), "late")


async def test_findings_stand_on_it_and_on_no_page_of_metrics(exporter: Exporter) -> None:
    found = [
        Finding(level="note", text="workers <send> no task events", advice="start them with -E, not hunter2"),
        Finding(level="problem", text="a queue has no consumer"),
        Finding(level="ok", text="the broker answers"),
    ]
    said: list[Snapshot | AdapterError] = [Snapshot(findings=found)]

    async def collect() -> Snapshot:
        if isinstance(said[0], AdapterError):
            raise said[0]
        return said[0]

    add(exporter, "shop", collect)
    first = await page(exporter)
    assert 'class="message note"><strong>workers &lt;send&gt; no task events</strong>' in first
    assert "start them with -E, not ***" in first
    assert 'class="message problem"><strong>a queue has no consumer</strong>' in first
    assert "the broker answers" not in first
    async with TestClient(TestServer(make_app(exporter))) as client:
        assert "task events" not in await (await client.get("/metrics")).text()
    said[0] = AdapterError(Reason.CONNECT, "refused")
    assert "no consumer" not in await page(exporter)


async def test_numbers_as_people_read_them_and_unknown_is_no_zero(exporter: Exporter) -> None:
    tasks = {State.READY: 12_345, State.RUNNING: 2, State.RESERVED: 7, State.SCHEDULED: 0, State.BLOCKED: 0}
    known = queue(
        "a",
        tasks=tasks,
        capped={State.RESERVED: True},
        oldest_age={State.READY: 134.0, State.RUNNING: 0.0},
        consumers=1,
        slots=1,
    )
    unknown = queue("b", tasks={State.DEAD: 3})
    broken = Problem(reason=Reason.TIMEOUT, part="queues")  # else what is not told is 0
    can = [Capability(family="taskq_tasks", state=s) for s in tasks]
    can.append(Capability(family="taskq_tasks", state=State.FAILED, reason="permission"))
    can.append(Capability(family="taskq_oldest_task_age_seconds", state="ready", reason="version"))
    add(exporter, "shop", Snapshot(queues=[known, unknown], capabilities=can, problems=[broken]))
    said = await page(exporter)
    assert rows(said) == {
        "a": dict(zip(COLUMNS, ("12.3k", "2 ≥7 reserved", "0", "–", "2m 14s", "0s", "1 1 slot", "–"), strict=True)),
        "b": dict(zip(COLUMNS, ("–", "–", "–", "3 dead", "–", "–", "–", "–"), strict=True)),
    }
    b = said[said.index("<span>b</span>") :]
    assert re.findall(r'<td title="(.*?)"', b) == [
        *("not known now",) * 3,
        "no permission to read it",
        "this version cannot tell",
        *("this queue system does not tell",) * 3,
    ]
    assert 'title="12,345"' in said


async def test_a_count_that_stopped_at_a_limit_says_at_least(exporter: Exporter) -> None:
    tasks = {State.READY: 100_000, State.FAILED: 5}
    bound = queue("b", oldest_age={State.READY: 134.0}, oldest_is_bound=True)
    capped = queue("a", tasks=tasks, capped={State.READY: True, State.FAILED: False})
    add(exporter, "shop", Snapshot(queues=[capped, bound]))
    said = await page(exporter)
    assert rows(said)["b"]["oldest"] == "≥2m 14s"
    assert (rows(said)["a"]["ready"], rows(said)["a"]["failed"]) == ("≥100k", "5")
    assert 'title="at least 100,000: the count stopped at a limit"' in said


async def test_what_is_stuck_stands_first_and_says_why(exporter: Exporter) -> None:
    waits: dict[str, Any] = {"tasks": {State.READY: 1}, "oldest_age": {State.READY: 60.0}}
    queues = [
        queue("fine", tasks={State.READY: 9}, consumers=1),
        queue("held", paused=True, **waits),
        queue("slow", consumers=2, **waits),
        queue("alone", consumers=0, **waits),
    ]
    objectives = [{"queue": "slow", "start_within": "30s", "ratio": 0.99}]
    add(exporter, "calm", Snapshot(queues=[queue("fine too")]))
    add(exporter, "shop", Snapshot(queues=queues), objectives=objectives)
    said = await page(exporter)
    assert list(rows(said)) == ["alone", "slow", "held", "fine", "fine too"]
    marks = re.findall(r'<span>(\w+)</span> <b class="mark">(.*?)</b>', said)
    assert marks == [("alone", "no consumers"), ("slow", "late: should start within 30s"), ("held", "paused")]
    assert "3 queues stuck" in said


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", ["a", "b", "c"]),
        ("?sort=ready", ["b", "a", "c"]),
        ("?sort=-ready", ["a", "b", "c"]),
        ("?sort=queue", ["a", "b", "c"]),
        ("?sort=-queue", ["c", "b", "a"]),
        ("?sort=nonsense", ["a", "b", "c"]),
        ("?filter=B", ["b"]),
        ("?filter=shop", ["a", "b", "c"]),
        ("?filter=%ED%A0%80%3Cscript%3E", []),
    ],
)
async def test_sorted_and_filtered_by_the_address(exporter: Exporter, query: str, order: list[str]) -> None:
    ages = {"a": 3.0, "b": 2.0, "c": 1.0}
    tasks: dict[str, dict[State, int]] = {"a": {State.READY: 5}, "b": {State.READY: 10}, "c": {}}
    queues = [queue(n, tasks=tasks[n], oldest_age={State.READY: age}) for n, age in ages.items()]
    add(exporter, "shop", Snapshot(queues=queues))
    said = await page(exporter, f"/{query}")
    assert list(rows(said)) == order
    assert "<script>" not in said
    assert ("No queue and no source has such a name." in said) == (not order)


async def test_workers_schedulers_and_what_can_be_measured(exporter: Exporter) -> None:
    workers = [
        WorkerStats(name="w<1>", up=True, state=WorkerState.BUSY, tasks={"running": 2}, slots=4, software="celery"),
        WorkerStats(name="w2", up=False),
    ]
    can = [
        Capability(family="taskq_tasks", state="ready"),
        Capability(family="taskq_tasks", state="failed", reason="backend"),
        Capability(family="taskq_worker_slots", reason="option"),
        Capability(family="taskq_fake_own"),
    ]
    schedulers = [SchedulerStats(name="beat", up=False, entry_count=3)]
    add(exporter, "shop", Snapshot(workers=workers, capabilities=can, schedulers=schedulers))
    add(exporter, "fleet", Snapshot(worker_states={WorkerState.IDLE: 3, WorkerState.BUSY: 0}))
    said = await page(exporter)
    shop = text(section(said, "shop"))
    assert "w2 down – – – – – – w<1> busy 2 – 4 – – celery" in shop, "what is down stands first"
    assert "Schedulers: 1, 1 down" in shop
    assert "beat down 3 –" in shop
    assert "What it measures: 2 of 4" in shop
    assert "taskq_tasks failed this queue system does not tell : Stored tasks" in shop
    assert "taskq_worker_slots switched off here, or in the workers : Tasks that the worker can run" in shop
    assert "taskq_fake_own of this adapter alone" in shop
    assert "Workers: 3 idle" in text(section(said, "fleet"))


async def test_its_own_files_and_no_others(exporter: Exporter) -> None:
    hostile = '"><script>alert(1)</script>'
    add(exporter, hostile, Snapshot(queues=[queue(hostile)], workers=[WorkerStats(name=hostile)], server=hostile))
    async with TestClient(TestServer(make_app(exporter, "/custom/metrics")), auto_decompress=False) as client:
        response = await client.get("/", headers={"Accept-Encoding": "gzip"})
        said = gzip.decompress(await response.read()).decode()
        assert "<script>" not in said
        assert "Set-Cookie" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"\s(style|on\w+)=", said), "the policy forbids what is inline"
        links = re.findall(r'(?:href|src)="([^"#?]+)', said)
        assert "custom/metrics" in links
        assert {"-/page.css", "-/page.js", "-/page.svg", "health", "config"} <= set(links)
        for link in links:
            assert not link.startswith(("/", "http")), "it may lie behind a path of a proxy"
            assert (await client.get(f"/{link}")).status in (200, 503), link
        assert (await client.head("/")).status == 200


def test_300_queues_make_a_small_page_and_thousands_no_endless_one() -> None:
    def source(name: str, n: int) -> SourceOverview:
        facts: dict[str, Any] = {"oldest_ready": 3725.0, "longest_run": 95.0, "finished_per_second": 1.5, "slots": 8}
        facts |= {"tasks": dict.fromkeys(State, 12_345), "consumers": 0, "stuck": "no_consumers"}
        waves = tuple(50.0 + 50 * (-1) ** i for i in range(60))  # a line that cannot be drawn with fewer points
        names = (f"billing.invoices.eu-west-1.number-{i}" for i in range(n))
        queues = tuple(QueueOverview(name=name, history=waves, **facts) for name in names)
        return SourceOverview(name=name, adapter="fake", state="up", queues=queues, queues_total=n)

    def show(*sources: SourceOverview, view: View = View()) -> str:  # noqa: B008 - frozen
        return document(sources, view, {}, "", 0.0)

    said = show(source("shop", 300))
    assert len(rows(said)) == said.count('aria-label="ready: 0 to 100"') == 300
    assert len(said) < 300_000
    both = source("shop", 300), source("big", 1000)
    said = show(*both)
    assert len(rows(section(said, "shop"))) == 250
    assert "50 more queues are not shown: filter by name." in section(said, "shop")
    assert "750 more queues are not shown" in section(said, "big")
    assert list(rows(show(*both, view=View(filter="number-999")))) == ["billing.invoices.eu-west-1.number-999"]


async def test_a_source_that_hangs_does_not_hold_up_the_page(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    gate.set()

    async def collect() -> Snapshot:
        await gate.wait()
        return Snapshot(queues=[queue("emails", tasks={State.READY: 3})])

    add(exporter, "hangs", collect, timeout=60)
    assert rows(await page(exporter))["emails"]["ready"] == "3"
    gate.clear()
    monkeypatch.setattr(people, "PATIENCE", 0.05)
    assert rows(await page(exporter))["emails"]["ready"] == "3"
    assert exporter.runners["hangs"].failures.counts.total() == 0, "a person who does not wait is no error"
