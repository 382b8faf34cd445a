"""Health: alive, ready, and what is said of each source; never hanging, and never making errors of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from taskq_exporter import __version__
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Problem, QueueStats, Reason, Snapshot, State, WorkerStats, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.testing import Server
from taskq_exporter.testing.watch import watch
from taskq_exporter.view import history
from taskq_exporter.web import health
from taskq_exporter.web.app import make_app

Client = TestClient[Any, Any]


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def client_of(exporter: Exporter) -> Client:
    return TestClient(TestServer(make_app(exporter)))


def add(exporter: Exporter, name: str, answer: Any, **core: Any) -> None:
    """A source that answers so: a snapshot, an error, or what is awaited first."""

    async def collect() -> Snapshot:
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return Snapshot()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Snapshot)
        return answer

    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h", **core})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def get(client: Client, path: str) -> tuple[int, dict[str, Any]]:
    async with client.get(URL(path, encoded=True)) as answer:
        return answer.status, await answer.json()


UP, DOWN = Snapshot(), AdapterError(Reason.CONNECT, "refused with hunter2")
PARTIAL = Snapshot(problems=[Problem(reason=Reason.PERMISSION, part="workers", message="hunter2 may not")])

SAID = {
    id(UP): ("healthy", None, ""),
    id(PARTIAL): ("degraded", "permission", "cannot read workers: *** may not"),
    id(DOWN): ("unhealthy", "connect", "refused with ***"),
}


@pytest.mark.parametrize(
    ("answers", "status", "word"),
    [
        ([], 200, "healthy"),
        ([UP, UP], 200, "healthy"),
        ([UP, PARTIAL], 200, "degraded"),
        ([UP, DOWN], 200, "degraded"),
        ([DOWN, DOWN], 503, "unhealthy"),
    ],
)
async def test_503_only_when_everything_is_down(exporter: Exporter, answers: list[Any], status: int, word: str) -> None:
    keep_secret("x://user:hunter2@h")
    for i, answer in enumerate(answers):
        add(exporter, f"s{i}", answer)
    async with client_of(exporter) as client:
        got, document = await get(client, "/health")
        assert (got, document["status"], document["version"]) == (status, word, __version__)
        assert document["uptime_seconds"] >= 0
        at = datetime.fromisoformat(document["timestamp"])
        assert abs((datetime.now(UTC) - at).total_seconds()) < 60
        checks = document["checks"]
        assert list(checks) == [f"s{i}" for i in range(len(answers))]
        for check, answer in zip(checks.values(), answers, strict=True):
            assert check["response_time_seconds"] >= 0
            assert (check["status"], check["reason"], check["message"]) == SAID[id(answer)]
            assert check["last_error"] == (None if answer is UP else SAID[id(answer)][1])
            assert answer is UP or abs(time.time() - check["last_error_at"]) < 60
        assert "hunter2" not in str(document)
        assert (await client.get("/-/healthy")).status == 200
        assert (await client.get("/-/ready")).status == 200, "a dead broker never makes it unready"


async def test_not_ready_before_each_source_has_succeeded_or_failed_once(exporter: Exporter) -> None:
    gate = asyncio.Event()
    add(exporter, "slow", gate)
    add(exporter, "down", DOWN)
    async with client_of(exporter) as client:
        assert (await client.get("/-/healthy")).status == 200
        ready = await client.get("/-/ready")
        assert (ready.status, "waiting for the first collect of slow, down" in await ready.text()) == (503, True)
        status, document = await get(client, "/health")  # which looks, and waits for a moment only
        assert (status, document["status"]) == (200, "degraded")
        assert {name: check["status"] for name, check in document["checks"].items()} == {
            "slow": "starting",
            "down": "unhealthy",
        }
        assert (await client.get("/-/ready")).status == 503, "of the slow one nobody knows yet"
        gate.set()
        await client.get("/metrics")
        assert (await client.get("/-/ready")).status == 200
        add(exporter, "added", asyncio.Event())
        assert (await client.get("/-/ready")).status == 200, "as a reload adds one: the others are served meanwhile"


async def test_details_of_one_source_and_names_of_every_kind(exporter: Exporter) -> None:
    workers = [WorkerStats(name="a", up=True), WorkerStats(name="b", up=True), WorkerStats(name="c", up=False)]
    add(exporter, "web/default", Snapshot(workers=workers))
    add(exporter, "naïve & <b>", UP)
    add(exporter, "down", DOWN)
    async with client_of(exporter) as client:
        for path in ("/health/web/default", "/health/web%2Fdefault"):
            status, document = await get(client, path)
            assert (status, document["source"], document["status"]) == (200, "web/default", "healthy")
            assert document["workers"] == {"total": 3, "active": 2, "unhealthy": 1}
        status, document = await get(client, "/health/na%C3%AFve%20%26%20%3Cb%3E")
        assert (status, document["workers"], document["broker"]) == (200, None, None), "not known is not 0"
        status, document = await get(client, "/health/down")
        assert (status, document["status"], document["reason"]) == (503, "unhealthy", "connect")
        status, document = await get(client, "/health/nobody")
        assert (status, document) == (404, {"error": "no such source; there are: web/default, naïve & <b>, down"})


async def test_it_uses_what_the_last_look_knew(exporter: Exporter) -> None:
    looks = 0

    async def collect() -> Snapshot:
        nonlocal looks
        looks += 1
        return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 1})])

    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": "s", "adapter": "fake", "url": "x://h"})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))
    async with client_of(exporter) as client:
        await client.get("/metrics")
        for _ in range(20):
            await get(client, "/health")
            await get(client, "/health/s")
        assert looks == 1


async def test_a_real_redis_that_freezes_and_dies(redis_own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The details of a real server, and a hanging one costs a check a moment and the source no error."""
    monkeypatch.setattr(health, "MAX_AGE", 0.0)
    monkeypatch.setattr(health, "PATIENCE", 0.2)
    monkeypatch.setattr(history, "EVERY", 0.0)
    source = {"adapter": "celery", "url": redis_own.url, "name": "shop", "timeout": "60s"}
    async with watch(source) as world, client_of(world.exporter) as client:
        await world.page()
        status, document = await get(client, "/health/shop")
        assert (status, document["status"], document["adapter"]) == (200, "healthy", "celery")
        assert document["server"] in ("redis", "valkey")
        assert document["broker"]["memory_bytes"] > 100_000
        assert document["broker"]["latency_seconds"] > 0
        assert document["broker"]["connections"]["connected"] >= 1
        assert document["broker"]["operations_per_second"] > 0
        redis_own.freeze()
        try:
            async with asyncio.timeout(20):  # the source's own timeout is 60 s
                status, document = await get(client, "/health")
                assert (status, document["status"]) == (200, "healthy"), "as it was last known"
        finally:
            redis_own.thaw()
        await world.page()
        assert not world.runner.failures.counts, "nobody's impatience is an error of the source"
        redis_own.stop()
        monkeypatch.setattr(health, "PATIENCE", 20.0)
        status, document = await get(client, "/health")
        assert (status, document["status"], document["checks"]["shop"]["reason"]) == (503, "unhealthy", "connect")
        assert (await client.get("/-/ready")).status == 200
        status, document = await get(client, "/health/shop")
        assert (status, document["broker"], document["last_error"]) == (503, None, "connect")


async def test_the_details_of_a_real_postgres(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE jobs (id bigint PRIMARY KEY, queue text NOT NULL, state text NOT NULL)")
    table = {
        "name": "public.jobs",
        "columns": {"id": "id", "queue": "queue", "state": "state"},
        "states": {"ready": ["queued"], "running": ["active"]},
    }
    source = {"adapter": "postgres", "url": postgres_dsn, "name": "billing", "table": table}
    async with watch(source) as world, client_of(world.exporter) as client:
        status, document = await get(client, "/health/billing")
        assert (status, document["server"], document["broker"]["memory_bytes"]) == (200, "postgresql", None)
        assert document["broker"]["latency_seconds"] > 0
        assert document["broker"]["connections"]["active"] >= 1
        assert document["broker"]["connections_limit"] >= 10
