"""The web server, as a scraper meets it; no queue system is needed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, QueueStats, Reason, Snapshot, State, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.web.app import make_app
from taskq_exporter.web.metrics import scrape_deadline


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, collect: Any, **core: Any) -> None:
    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h", **core})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def good() -> Snapshot:
    return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 3})])


async def test_routes(exporter: Exporter) -> None:
    gate = asyncio.Event()
    keep_secret("x://user:hunter2@h")

    async def first_waits() -> Snapshot:
        await gate.wait()
        raise AdapterError(Reason.CONNECT, "refused <by> the server with hunter2")

    add(exporter, "ok", good)
    add(exporter, "bad & ugly", first_waits)
    async with TestClient(TestServer(make_app(exporter))) as client:
        ready = await client.get("/-/ready")
        assert ready.headers["Server"] == "taskq-exporter"
        assert (ready.status, "waiting for the first collect of ok, bad & ugly" in await ready.text()) == (503, True)
        gate.set()
        page = await client.get("/metrics")
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await page.text()
        assert 'taskq_source_up{source="ok"} 1.0' in text
        assert 'taskq_source_up{source="bad & ugly"} 0.0' in text
        assert "process_cpu_seconds_total" in text
        assert "taskq_exporter_build_info" in text
        assert (await client.get("/-/ready")).status == 200
        assert (await client.get("/-/healthy")).status == 200
        assert (await client.head("/-/healthy")).status == 200
        assert "hunter2" not in text
        assert (await client.get("/nothing")).status == 404
        assert (await client.post("/metrics")).status == 405


async def test_content_negotiation_and_gzip(exporter: Exporter) -> None:
    add(exporter, "ok", good)
    async with TestClient(TestServer(make_app(exporter)), auto_decompress=False) as client:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        page = await client.get("/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
        assert page.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert page.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await page.read()).endswith(b"# EOF\n")
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers


async def test_the_page_comes_within_the_scrape_deadline(exporter: Exporter) -> None:
    async def hangs() -> Snapshot:
        await asyncio.sleep(60)
        return Snapshot()

    add(exporter, "ok", good)
    add(exporter, "hangs", hangs, timeout=60)
    async with TestClient(TestServer(make_app(exporter))) as client:
        async with asyncio.timeout(30):
            page = await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
        text = await page.text()
        assert 'taskq_source_up{source="hangs"} 0.0' in text
        assert 'taskq_source_errors_total{reason="timeout",source="hangs"} 1.0' in text
        assert 'taskq_tasks{queue="q",source="ok",state="ready"} 3.0' in text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("10", 9.5), ("0.4", 0.2), ("nan", None), ("-1", None), ("0", None), ("inf", None), ("soon", None)],
)
def test_the_timeout_header(header: str | None, seconds: float | None) -> None:
    deadline = scrape_deadline(header, 100.0)
    assert deadline == (float("inf") if seconds is None else pytest.approx(100 + seconds))
