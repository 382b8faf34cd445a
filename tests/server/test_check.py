"""What `check` finds, as data and as text, and how a running exporter tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import (
    AdapterError,
    Capability,
    Finding,
    Ledger,
    LongestRun,
    Outcome,
    Problem,
    QueueStats,
    Reason,
    Snapshot,
    State,
    WorkerStats,
    hookimpl,
)
from taskq_exporter.commands.checkup import lines
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.view.doctor import Report, as_json, examine, from_json
from taskq_exporter.web.app import make_app
from taskq_exporter.web.client import PASSWORD, USERNAME, FetchError, fetch_json

SNAPSHOT = Snapshot(
    server="redis",
    server_version="7.2.1",
    queues=[QueueStats(name=f"q{i}", tasks={State.READY: i}) for i in range(12)],
    workers=[WorkerStats(name="w1@h", up=True, pool="prefork", software="celery", software_version="5.7.0", slots=4)],
    longest_runs=[LongestRun(queue="q1", task=f"t{i}", seconds=1) for i in range(5)],
    capabilities=[
        Capability(family="taskq_tasks", state="ready"),
        Capability(family="taskq_worker_slots", reason="option", advice="set inspect: true"),
        Capability(family="taskq_tasks_started_total", reason="backend"),
    ],
)


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, collect: Any, core: dict[str, Any] | None = None, **hooks: Any) -> None:
    hooks = {name: hookimpl(hook) for name, hook in {"collect": collect, **hooks}.items()}
    adapter = Adapters({"fake": SimpleNamespace(**hooks)}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h", **(core or {})})
    exporter.add(ConfiguredSource(config, adapter, adapter.options(), "conf.yaml:3:8"))


async def good() -> Snapshot:
    return SNAPSHOT


def text(report: Report, **how: Any) -> str:
    return "\n".join(lines(report, **how))


async def test_a_source_that_is_well(exporter: Exporter) -> None:
    async def diagnose() -> list[Finding]:
        return [Finding(level="note", text="no -E", advice="use -E"), Finding(level="ok", text="it answers")]

    add(exporter, "shop", good, diagnose=diagnose)
    report = await examine(exporter)
    assert report.healthy
    told = text(report)
    assert "shop: up; fake, redis 7.2.1, " in told
    assert "12: q1 (1 ready), q11 (11 ready), q10 (10 ready)" in told  # the first one runs a task
    assert ", and 2 more" in told
    assert "w1@h (up, prefork, celery 5.7.0, 4 slots)" in told
    assert "  note     no -E\n             -> use -E" in told
    assert "  ok       it answers" in told
    assert "    taskq_worker_slots\n      -> set inspect: true" in told
    assert told.index("taskq_worker_slots") < told.index("taskq_tasks_started_total")  # which nothing changes
    assert told.endswith("1 source, no problem")
    assert max(map(len, told.splitlines())) <= 80
    assert told.isascii()
    assert "\x1b[33mnote\x1b[m" in text(report, colour=True)


@pytest.mark.parametrize(
    ("core", "told"),
    [({}, False), ({"task_labels": ["task"]}, True), ({"disable": ["taskq_task_wait_duration_seconds"]}, True)],
)
async def test_an_objective_that_nothing_measures(exporter: Exporter, core: dict[str, Any], told: bool) -> None:
    objectives = [{"queue": "q1", "start_within": "45s", "ratio": 0.9}]
    add(exporter, "shop", good, core={"objectives": objectives, **core})
    assert ("note     objectives are watched by the age of the" in text(await examine(exporter))) == told


async def test_what_labels_cost(exporter: Exporter) -> None:
    async def follow(ledger: Ledger) -> None:
        for i in range(5):
            ledger.ran("q1", f"t{i}", Outcome.SUCCEEDED, 1.0)
        ledger.following()
        await asyncio.sleep(3600)

    add(exporter, "shop", good, follow=follow)
    await asyncio.sleep(0)
    await exporter.gather()
    page = await exporter.gather()
    assert page[0].follower_up
    (shop,) = (await examine(exporter)).sources
    families = {cost.family: cost.series for cost in shop.families}
    assert families["taskq_task_longest_run_seconds"] == 5
    assert families["taskq_task_run_duration_seconds"] == 5 * 17  # 14 bounds, +Inf, count and sum
    assert sum(families.values()) == shop.series
    labels = {cost.label: (cost.series, cost.without) for cost in shop.labels}
    assert labels["task"] == (5 + 5 * 17, 1 + 17)
    assert labels["le"] == (5 * 15, 5)
    assert "task_labels: [queue]" in text(Report(sources=(shop,)))


async def test_a_source_that_is_down_and_one_that_lacks_a_right(exporter: Exporter) -> None:
    keep_secret("x://user:hunter2@h")

    async def down() -> Snapshot:
        raise AdapterError(Reason.AUTH, "hunter2 is refused")

    async def lacks() -> Snapshot:
        return Snapshot(
            problems=[Problem(reason=Reason.PERMISSION, part="workers", message="no right +xinfo, hunter2")],
            capabilities=[Capability(family="taskq_workers", reason="permission")],
        )

    def grants() -> str:
        return "ACL SETUSER taskq_exporter " + "+xinfo " * 20 + "hunter2"

    def not_asked() -> list[Finding]:
        raise AssertionError

    add(exporter, "down", down, diagnose=not_asked)
    add(exporter, "lacks", lacks, grants=grants)
    report = await examine(exporter)
    assert not report.healthy
    assert [(s.name, s.state, s.reason, s.healthy) for s in report.sources] == [
        ("down", "down", "auth", False),
        ("lacks", "partial", "permission", False),
    ]
    told = text(report)
    assert "down: down (auth); fake" in told
    assert "  problem  conf.yaml:3:8: *** is refused" in told
    assert "  problem  cannot read workers: permission: no right +xinfo, ***" in told
    assert "-> give the rights that `taskq-exporter grants` prints" in told
    assert f"\n    ACL SETUSER taskq_exporter {'+xinfo ' * 20}***\n" in told  # to be copied: not wrapped
    assert "hunter2" not in json.dumps(as_json(report)) + told


async def test_a_follower_that_does_not_follow(exporter: Exporter) -> None:
    refused = asyncio.Event()

    async def follow() -> None:
        await refused.wait()
        raise AdapterError(Reason.PERMISSION, "no right +psubscribe")

    add(exporter, "shop", good, follow=follow)
    report = await examine(exporter)
    assert report.healthy
    assert "note     what happens is not followed yet" in text(report)
    refused.set()
    while not exporter.runners["shop"].follower.stopped:
        await asyncio.sleep(0.01)
    report = await examine(exporter)
    assert not report.healthy
    assert "problem  what happens is not followed: no right +psubscribe" in text(report)


@pytest.mark.parametrize("failure", ["adapter", "bug", "hang"])
async def test_an_adapter_that_cannot_diagnose(exporter: Exporter, failure: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("taskq_exporter.view.doctor.PATIENCE", 0.05)

    async def diagnose() -> list[Finding]:
        if failure == "adapter":
            raise AdapterError(Reason.BUSY, "it loads")
        if failure == "bug":
            raise KeyError("x")
        await asyncio.sleep(60)
        return []

    add(exporter, "shop", good, diagnose=diagnose)
    runner = exporter.runners["shop"]
    runner.source = replace(runner.source, timeout=0.05)
    report = await examine(exporter)
    (finding,) = report.sources[0].findings
    assert finding.level == "problem"
    expected = {"adapter": "busy: it loads", "bug": "KeyError in adapter fake", "hang": "does not answer in time"}
    assert expected[failure] in finding.text
    assert not report.healthy


async def test_what_is_only_a_bound_is_no_number(exporter: Exporter) -> None:
    async def collect() -> Snapshot:
        ready = QueueStats(name="q", tasks={State.READY: 1000}, capped={State.READY: True})
        return Snapshot(queues=[replace(ready, oldest_age={State.READY: 3.0}, oldest_is_bound=True)])

    add(exporter, "shop", collect)
    assert "q (at least 1,000 ready, oldest 3s or more)" in text(await examine(exporter))


async def test_names_cannot_reach_the_terminal(exporter: Exporter) -> None:
    async def collect() -> Snapshot:
        return Snapshot(queues=[QueueStats(name="a\x1b[2J\nb", tasks={State.READY: 1})])

    add(exporter, "shop", collect)
    told = text(await examine(exporter))
    assert "\x1b" not in told
    assert "a\\x1b[2J\\nb" in told


async def test_json_keeps_everything(exporter: Exporter) -> None:
    add(exporter, "shop", good)
    report = await examine(exporter)
    document = json.loads(json.dumps(as_json(report)))
    assert from_json(document) == report
    assert {"version", "healthy", "sources"} == document.keys()
    (shop,) = document["sources"]
    stable = {"name", "adapter", "state", "reason", "message", "server", "server_version", "queues", "workers"}
    stable |= {"healthy", "where", "commands", "findings", "problems", "capabilities", "grants", "series", "labels"}
    assert stable | {"families"} <= shop.keys()
    assert shop["capabilities"][1] == {
        "family": "taskq_worker_slots",
        "state": "",
        "can": False,
        "reason": "option",
        "advice": "set inspect: true",
    }
    # of a later version
    assert from_json({**document, "new": 1, "sources": [{**shop, "newer": 2}]}) == report
    for nothing in ({"sources": [{}]}, [], None, {"sources": 1}):
        with pytest.raises(ValueError, match="not what"):
            from_json(nothing)


async def test_many_ask_and_one_looks(exporter: Exporter, monkeypatch: Any) -> None:
    asked = 0

    async def diagnose() -> list[Finding]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)
        return [Finding(level="problem", text="bad")]

    add(exporter, "shop", good, diagnose=diagnose)
    async with TestClient(TestServer(make_app(exporter))) as client:

        async def check() -> Any:
            async with client.get("/api/check") as answer:
                assert answer.status == 200
                return await answer.json()

        documents = await asyncio.gather(*(check() for _ in range(5)))
        documents.append(await check())
        assert asked == 1
        assert {json.dumps(document) for document in documents} == {json.dumps(documents[0])}
        assert not from_json(documents[0]).healthy
        monkeypatch.setattr("taskq_exporter.web.check.FRESH", 0.0)
        await check()
        assert asked == 2


async def test_a_running_exporter_is_read(exporter: Exporter, monkeypatch: Any) -> None:
    add(exporter, "shop", good)
    monkeypatch.setenv("NETRC", "/nowhere")

    async def answer(request: web.Request) -> web.Response:
        status, body = {
            "/text": (200, "<html>\x1b[2J"),
            "/broken": (500, "Internal \x1b error"),
            "/private": (200 if request.headers.get("Authorization") == "Basic bTpwIMO8" else 401, "{}"),
        }[request.path]
        return web.Response(status=status, text=body)

    app = make_app(exporter)
    for path in ("/text", "/broken", "/private"):
        app.router.add_get(path, answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        assert from_json(await fetch_json(f"{url}/api/check")).sources[0].name == "shop"

        async def error(where: str) -> str:
            with pytest.raises(FetchError) as raised:
                await fetch_json(where, timeout=10)
            return str(raised.value)

        assert "no JSON; is a taskq-exporter there? It says: <html>\\x1b[2J" in await error(f"{url}/text")
        assert "HTTP status 500: Internal \\x1b error" in await error(f"{url}/broken")
        assert "not found" in await error(f"{url}/nothing")
        assert f"not authorized; set {USERNAME} and {PASSWORD}" in await error(f"{url}/private")
        monkeypatch.setenv(USERNAME, "m")
        monkeypatch.setenv(PASSWORD, "p ü")
        assert await fetch_json(f"{url}/private") == {}
        for wrong in ("exporter:9540", "ftp://h", "http://", "http://[::", "http://h:99999"):
            assert "write it as http://HOST:9540" in await error(wrong)
        told = await error(f"http://me:hunter2@{url.removeprefix('http://')}")
        assert "no user and password in the URL" in told
        assert "hunter2" not in told
    assert "cannot be read" in await error(url)
