"""What a page of metrics is asked for, and that nothing else is done for it."""

from __future__ import annotations

import asyncio
import gzip
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Family, Outcome, QueueStats, Reason, Sample, Snapshot, State, hookimpl
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.testing.page import Page, check_openmetrics, check_text
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.web.app import make_app
from taskq_exporter.web.keys import PageOptions

Client = TestClient[Any, Any]
SCRAPER = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": "Prometheus/3.0"}
FAILED = "taskq_tasks_finished_total"


class Queue:
    """A source that says how often it is looked at, and whose follower counts what the test says."""

    def __init__(self, exporter: Exporter, name: str, families: tuple[Family, ...] = (), **core: Any) -> None:
        self.looks = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.ledger: Any = None
        samples = tuple(Sample(family=family.name, labels=(), value=1) for family in families)

        @hookimpl
        async def collect() -> Snapshot:
            self.looks += 1
            await self.gate.wait()
            return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 3})], samples=samples)

        @hookimpl
        async def follow(ledger: Any) -> None:
            ledger.counts("finished")
            ledger.following()
            self.ledger = ledger
            await asyncio.sleep(3600)

        plugin = SimpleNamespace(collect=collect, follow=follow, families=hookimpl(lambda: families))
        adapter = Adapters({"fake": plugin}).get("fake")
        config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://h", **core})
        self.runner = exporter.add(ConfiguredSource(config, adapter, adapter.options()))


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


@asynccontextmanager
async def serving(exporter: Exporter, **options: Any) -> AsyncIterator[Client]:
    app = make_app(exporter, pages=PageOptions(**options))
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def page(client: Client, query: str = "", **headers: str) -> Page:
    answer = await client.get(f"/metrics{query}", headers={"Accept-Encoding": "identity", **headers})
    text = await answer.text()
    assert answer.status == 200, text
    return Page(text)


async def refused(client: Client, query: str) -> str:
    answer = await client.get(f"/metrics{query}")
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("text/plain")
    return await answer.text()


def names(page: Page) -> set[str]:
    return {line.split()[2] for line in page.text.splitlines() if line.startswith("# TYPE")}


async def test_collect_asks_only_those_sources(exporter: Exporter) -> None:
    shop, web, mails = (Queue(exporter, name) for name in ("shop", "web/default", "mails"))
    async with serving(exporter) as client:
        both = await page(client, "?collect[]=shop&collect[]=web/default&collect[]=shop")
        assert {dict(labels)["source"] for labels in both.values("taskq_source_up")} == {"shop", "web/default"}
        assert (shop.looks, web.looks, mails.looks) == (1, 1, 0)
        assert "process_cpu_seconds_total" in names(both), "the exporter's own stay, as in node_exporter"
        assert "did you mean 'mails'?" in await refused(client, "?collect[]=shop&collect[]=mail")
        assert "there are mails, shop, web/default" in await refused(client, "?collect[]=xyz")
        assert "hunter2" not in await refused(client, "?collect[]=redis://me:hunter2@shop")
        assert shop.looks == 1, "a page that is refused costs nothing"


async def test_name_makes_only_those_families(exporter: Exporter) -> None:
    own = Family(name="taskq_fake_tricks", kind="gauge", help="Tricks.")
    plain, trick = Queue(exporter, "plain"), Queue(exporter, "trick", (own,))
    async with serving(exporter) as client:
        assert names(await page(client, "?name[]=taskq_tasks&name[]=taskq_source_up")) == {
            "taskq_tasks",
            "taskq_source_up",
        }
        assert (plain.looks, trick.looks) == (1, 1)
        assert names(await page(client, "?name[]=taskq_fake_tricks")) == {"taskq_fake_tricks"}
        assert (plain.looks, trick.looks) == (1, 2), "only one of them can tell this family"
        whole = (await page(client)).value("taskq_source_series", source="trick")
        assert (await page(client, "?name[]=taskq_source_series")).value("taskq_source_series", source="trick") == whole
        assert "did you mean 'taskq_tasks'?" in await refused(client, "?name[]=taskq_task")
        assert "there are " in await refused(client, "?name[]=")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("taskq_tasks_finished_total", "taskq_tasks_finished_total"),
        ("taskq_tasks_finished", "taskq_tasks_finished_total"),
        ("taskq_task_run_duration_seconds_bucket", "taskq_task_run_duration_seconds"),
        ("taskq_task_run_duration_seconds_count", "taskq_task_run_duration_seconds"),
        ("taskq_source_follower_up", "taskq_source_follower_up"),
        ("process_cpu_seconds_total", "process_cpu_seconds_total"),
        ("python_gc_collections", "python_gc_collections_total"),
        ("taskq_exporter_build_info", "taskq_exporter_build_info"),
    ],
)
async def test_what_followers_and_the_exporter_know_needs_no_look_at_a_source(
    exporter: Exporter, name: str, family: str
) -> None:
    queue = Queue(exporter, "shop")
    async with serving(exporter) as client:
        await asyncio.sleep(0)  # the follower starts
        await page(client)
        queue.ledger.ran("q", "t", Outcome.FAILED, 0.1)
        queue.ledger.finished("q", "t", Outcome.FAILED)
        queue.looks = 0
        for accept in ("text/plain", "application/openmetrics-text"):
            found = await page(client, f"?name[]={name}", Accept=accept)
            assert names(found) == {family if accept == "text/plain" else family.removesuffix("_total")}
        assert queue.looks == 0


async def test_each_selection_of_a_prometheus_is_shown_a_new_series_at_0_first(exporter: Exporter) -> None:
    """Two jobs of one Prometheus have series of their own: none may see a total appear, or go back."""
    queue = Queue(exporter, "shop")
    queries = ("", "?name[]=taskq_tasks_finished", "?collect[]=shop", "?name[]=taskq_tasks_finished&collect[]=shop")
    async with serving(exporter) as client:

        async def shown(query: str, who: dict[str, str] = SCRAPER) -> float | None:
            return (await page(client, query, **who)).value(FAILED, outcome="failed")

        assert [await shown(query) for query in queries] == [None] * 4
        await page(client, "?name[]=taskq_tasks", **SCRAPER)
        queue.ledger.finished("q", "t", Outcome.FAILED, n=5)
        # a page without the family, or of a person, takes no step from anybody
        await page(client, "?name[]=taskq_tasks", **SCRAPER)
        assert await shown("", {}) == 5
        assert (await client.head("/metrics", headers=SCRAPER)).status == 200
        seen = [[await shown(query) for query in queries] for _ in range(3)]
        assert seen == [[0] * 4, [5] * 4, [5] * 4]


async def test_a_page_without_counters_writes_no_checkpoint(tmp_path: Path) -> None:
    exporter = Exporter(StateDir(tmp_path))
    queue = Queue(exporter, "shop")
    file = tmp_path / "shop.json"
    async with serving(exporter) as client:
        await asyncio.sleep(0)
        assert (await page(client, "?name[]=taskq_tasks", **SCRAPER)).value("taskq_tasks", state="ready") == 3
        assert not file.exists()
        queue.ledger.finished("q", "t", Outcome.FAILED)
        # what is shown is on disk
        assert (await page(client, "?name[]=taskq_tasks_finished")).value(FAILED, outcome="failed") == 1
        assert file.exists()
        assert queue.looks == 1
    await exporter.close()


async def test_no_more_pages_at_once_than_max_requests_and_health_always(exporter: Exporter) -> None:
    queue = Queue(exporter, "shop", timeout=60)
    queue.gate.clear()
    async with serving(exporter, max_requests=2) as client:
        pages = [asyncio.create_task(client.get("/metrics")) for _ in range(3)]
        [refusal], waiting = await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED)
        assert refusal.result().status == 503
        assert "--web.max-requests" in await refusal.result().text()
        assert (await client.get("/probe?target=shop")).status == 503
        for path in ("/-/healthy", "/sd"):
            assert (await client.get(path)).status == 200
        queue.gate.set()
        assert [(await task).status for task in waiting] == [200, 200]
        assert (await client.get("/metrics")).status == 200, "those that ended make room"
        assert (await client.get("/metrics?name[]=nothing")).status == 400
        assert (await client.get("/metrics")).status == 200, "those that were refused, too"


async def test_without_a_limit_every_page_is_made(exporter: Exporter) -> None:
    queue = Queue(exporter, "shop", timeout=60)
    queue.gate.clear()
    async with serving(exporter, max_requests=0) as client:
        waiting = [asyncio.create_task(client.get("/metrics")) for _ in range(50)]
        await asyncio.sleep(0.1)
        queue.gate.set()
        assert {(await task).status for task in waiting} == {200}
        assert queue.looks == 1, "they share one look"


@pytest.mark.parametrize(
    ("header", "coding"),
    [("gzip", "gzip"), ("gzip;q=0", None), ("identity", None), ("gzip;q=0.2, identity;q=0.8", None), ("", None)],
)
async def test_filtered_pages_are_negotiated_and_valid(exporter: Exporter, header: str, coding: str | None) -> None:
    Queue(exporter, "shop")
    prometheus_3 = (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    checks: dict[str, Callable[[str], None]] = {prometheus_3: check_openmetrics, "text/plain;version=9": check_text}
    async with serving(exporter) as client:
        for query in ("", "?name[]=taskq_tasks&name[]=process_start_time_seconds"):
            for accept, check in checks.items():
                answer = await client.get(f"/metrics{query}", headers={"Accept": accept, "Accept-Encoding": header})
                assert answer.status == 200, "no Accept header is refused"
                assert answer.headers.get("Content-Encoding") == coding
                assert answer.headers["Vary"] == "Accept, Accept-Encoding"
                assert answer.headers["Content-Type"].startswith("app" if check is check_openmetrics else "text/plain")
                body = await answer.read()
                check((gzip.decompress(body) if coding else body).decode())


async def test_the_timeout_offset_is_what_the_flag_says(exporter: Exporter) -> None:
    queue = Queue(exporter, "shop", timeout=120)
    queue.gate.clear()
    async with serving(exporter, timeout_offset=59.5) as client:
        late = await page(client, **{**SCRAPER, "X-Prometheus-Scrape-Timeout-Seconds": "60"})
        assert late.value("taskq_source_up") == 0, "half a second of sixty is left"
    queue.gate.set()


def test_the_flags_of_the_page(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sources: [{name: shop, adapter: celery, url: 'redis://127.0.0.1:1/0', timeout: 60s}]")
    flags = ("--web.disable-exporter-metrics", "--web.max-requests=1", "--scrape.timeout-offset=9")
    with ExporterProcess(config, *flags) as exporter:
        found = names(exporter.page())
        assert {name.partition("_")[0] for name in found} == {"taskq"}
        assert "taskq_exporter_build_info" in found
        assert "timeout 60 s, the page is due in 1.0 s" in probe(exporter.address, 10)
        assert "timeout 60 s, the page is due in 4.0 s" in probe(exporter.address, 8)


def probe(address: str, timeout: int) -> str:
    url, headers = (
        f"http://{address}/probe?target=shop&debug=true",
        {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)},
    )
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


async def test_a_source_that_is_down_stays_down_on_a_page_of_counters_alone(exporter: Exporter) -> None:
    """A page that needs no look must not say that a source is up or down."""

    @hookimpl
    async def collect() -> Snapshot:
        raise AdapterError(Reason.CONNECT, "gone")

    adapter = Adapters({"fake": SimpleNamespace(collect=collect)}).get("fake")
    config = SourceConfig.model_validate({"name": "s", "adapter": "fake", "url": "x://h", "objectives": [OBJECTIVE]})
    runner = exporter.add(ConfiguredSource(config, adapter, adapter.options()))
    async with serving(exporter) as client:
        found = await page(client, "?name[]=taskq_queue_objective_ratio")
        assert found.value("taskq_queue_objective_ratio", queue="q") == 0.99
        assert not runner.tried
        assert (await client.get("/-/ready")).status == 503, "nobody has looked yet"


OBJECTIVE = {"queue": "q", "start_within": "30s", "ratio": 0.99}
