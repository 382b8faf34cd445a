"""What the log says of requests and sources: a line for each change, and who asked."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Ledger, Snapshot, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.watch import config_file
from taskq_exporter.web.app import make_app
from taskq_exporter.web.request_log import REQUEST_ID

MERGED = [structlog.contextvars.merge_contextvars]


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, **hooks: Any) -> None:
    adapter = Adapters({"fake": SimpleNamespace(**{k: hookimpl(h) for k, h in hooks.items()})}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://h"})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def test_an_id_is_taken_over_where_it_is_sane(exporter: Exporter) -> None:
    async with TestClient(TestServer(make_app(exporter))) as client:
        for given in ["abc-1", "4bf92f35:77.b3/4d_a6=", "x" * 128]:
            for route in ["/metrics", "/nothing", "/-/ready"]:
                assert (await client.get(route, headers={REQUEST_ID: given})).headers.getall(REQUEST_ID) == [given]
        made = set()
        for given in ["", "x" * 129, "a b", 'a"b', "a=b;c", "schön", "a\tb"]:
            answer = await client.get("/metrics", headers={REQUEST_ID: given})
            made.add(answer.headers[REQUEST_ID])
            assert answer.headers[REQUEST_ID] != given
        assert len(made) == 7
        assert {len(one) for one in made} == {32}


async def test_lines_of_a_request_carry_its_id_and_no_others(exporter: Exporter) -> None:
    """Both requests come over one connection."""
    seen: dict[str, Any] = {}

    @asynccontextmanager
    async def connect() -> AsyncIterator[Callable[[], dict[str, Any]]]:
        seen["connect"] = get_contextvars()
        yield get_contextvars

    async def collect() -> Snapshot:
        seen["collect"] = get_contextvars()
        return Snapshot()

    def slow() -> Snapshot:
        seen["thread"] = get_contextvars()
        return Snapshot()

    async def follow(ledger: Ledger) -> None:
        seen["follow"] = get_contextvars()
        ledger.following()
        await asyncio.Event().wait()

    async def late(request: web.Request) -> web.Response:
        add(exporter, "shop", connect=connect, collect=collect, follow=follow)
        add(exporter, "mail", collect=slow)
        return web.Response()

    app = make_app(exporter)
    app.router.add_get("/add", late)
    async with TestClient(TestServer(app)) as client:
        with capture_logs(MERGED) as lines:
            await client.get("/add", headers={REQUEST_ID: "one"})
            await client.get("/metrics", headers={REQUEST_ID: "two"})
            await client.get("/-/healthy")
    assert seen["collect"] == {"request_id": "two", "source": "shop"}
    assert seen["thread"] == {"request_id": "two", "source": "mail"}
    # what outlives the request is not of it
    assert seen["connect"] == seen["follow"] == {"source": "shop"}
    up = [line for line in lines if line["event"] == "source is up"]
    assert {(line["request_id"], line["source"]) for line in up} == {("two", "shop"), ("two", "mail")}
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["path"], line["status"], line["log_level"]) for line in requests] == [
        ("/add", 200, "debug"),
        ("/metrics", 200, "debug"),
        ("/-/healthy", 200, "debug"),
    ]
    assert [line["request_id"] for line in requests][:2] == ["one", "two"]
    assert len(requests[2]["request_id"]) == 32


async def test_a_bug_while_answering_is_told_under_the_id_of_its_answer(exporter: Exporter) -> None:
    async def bug(_request: web.Request) -> web.Response:
        raise ZeroDivisionError

    app = make_app(exporter)
    app.router.add_get("/bug", bug)
    async with TestClient(TestServer(app)) as client:
        with capture_logs(MERGED) as lines:
            answer = await client.get("/bug?password=hunter2")
            text = await answer.text()
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (answer.status, line["event"], line["path"]) == (500, "bug while answering", "/bug")
    assert answer.headers[REQUEST_ID] == line["request_id"]
    assert f"request_id {line['request_id']}" in text
    assert "ZeroDivisionError" not in text
    assert "hunter2" not in str(lines)


async def test_third_parties_lines_in_a_collect_name_its_source(
    exporter: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    async def collect() -> Snapshot:
        logging.getLogger("redis").warning("slow")
        return Snapshot()

    add(exporter, "shop", collect=collect)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(structlog.processors.JSONRenderer(), foreign_pre_chain=MERGED)
    )
    logging.getLogger("redis").addHandler(handler)
    try:
        await exporter.gather()
    finally:
        logging.getLogger("redis").removeHandler(handler)
    assert json.loads(capsys.readouterr().err.splitlines()[-1]) == {"event": "slow", "source": "shop"}


def test_a_source_that_stays_down_is_one_line_however_often_it_is_scraped(tmp_path: Path) -> None:
    source = {"name": "shop", "adapter": "celery", "url": "redis://:hunter2@127.0.0.1:1/0"}
    with ExporterProcess(config_file(tmp_path, source), "--log.format=json") as exporter:
        for _ in range(8):
            with urllib.request.urlopen(f"http://{exporter.address}/metrics", timeout=30) as page:
                assert b'taskq_source_up{source="shop"} 0' in page.read()
        exporter.stop()
        text = exporter.log
    lines = [json.loads(line) for line in text.splitlines()]
    assert "hunter2" not in text
    assert [line["msg"] for line in lines if line.get("source") == "shop" and "down" in line["msg"]] == [
        "source is down"
    ]
    assert all({"time", "level", "msg"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert len(lines) <= 5
