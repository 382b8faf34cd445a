"""/probe: one configured source, or a target that a module allows."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import yaml
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Finding, Outcome, QueueStats, Reason, Snapshot, Source, State, hookimpl
from taskq_exporter.config.load import load_config
from taskq_exporter.config.shard import Shard
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure
from taskq_exporter.runtime.reload import Reloader
from taskq_exporter.testing import Server
from taskq_exporter.testing.page import Page
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.web.app import make_app
from taskq_exporter.web.keys import Lifecycle

Client = TestClient[Any, Any]
SCRAPER = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": "Prometheus/3.0"}
FINISHED = "taskq_tasks_finished_total"


class World:
    """An adapter that notes what it is asked to connect to, and whose followers count what the test says."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.ledgers: dict[str, Any] = {}
        self.ended: list[str] = []
        self.down: set[str] = set()

        @hookimpl
        async def collect(source: Source) -> Snapshot:
            self.urls.append(source.url())
            if source.name in self.down:
                raise AdapterError(Reason.CONNECT, "nobody answers")
            found = Finding(level="problem", text="a queue has no consumer", advice="start one")
            return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 3})], findings=[found])

        @hookimpl
        async def follow(source: Source, ledger: Any) -> None:
            self.ledgers[source.name] = ledger
            ledger.counts("finished")
            ledger.following()
            try:
                await asyncio.sleep(3600)
            finally:
                self.ended.append(source.name)

        self.adapters = Adapters({"fake": SimpleNamespace(collect=collect, follow=follow)})


class Fleet:
    """An exporter over a configuration that the test changes, and its client."""

    def __init__(self, client: Client, world: World, reloader: Reloader, path: Path) -> None:
        self.client, self.world, self._reloader, self._path = client, world, reloader, path

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        answer = await self.client.get(path, headers=headers)
        return answer.status, await answer.text()

    async def page(self, path: str, **headers: str) -> Page:
        status, text = await self.get(path, **headers)
        assert status == 200, text
        return Page(text)

    async def reload(self, modules: dict[str, Any]) -> None:
        self._path.write_text(yaml.safe_dump({**CONFIG, "modules": modules}))
        await self._reloader.reload()


CONFIG = {
    "sources": [
        {"name": "shop", "adapter": "fake", "url": "x://user:hunter2@shop"},
        {"name": "web/default", "adapter": "fake", "url": "x://web"},
    ]
}
MODULE = {
    "adapter": "fake",
    "allow": ["redis://*.brokers.internal:6379/*"],
    "username": "exporter",
    "password": "hunt@r3",
    "query": {"ssl": "yes"},
}
TARGET = "redis://a.brokers.internal:6379/0"
PROBE = f"/probe?module=fleet&target={TARGET}"


@asynccontextmanager
async def serving(path: Path, modules: dict[str, Any]) -> AsyncIterator[Fleet]:
    world, exporter = World(), Exporter()
    path.write_text(yaml.safe_dump({**CONFIG, "modules": modules}))
    reloader = Reloader(exporter, path, load_config(path, world.adapters), world.adapters, Shard())
    reloader.start()
    server = TestServer(make_app(exporter, lifecycle=Lifecycle(reloader, world.adapters)))
    await server.start_server(access_log=None)  # as the exporter does
    try:
        async with TestClient(server) as client:
            yield Fleet(client, world, reloader, path)
    finally:
        await exporter.close()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with serving(tmp_path / "config.yaml", {"fleet": MODULE}) as fleet:
        yield fleet


@pytest.fixture
def logs(capfd: pytest.CaptureFixture[str]) -> None:
    configure("debug", "logfmt")


async def test_a_page_of_one_configured_source_and_nothing_else(fleet: Fleet) -> None:
    page = await fleet.page("/probe?target=web/default")
    assert page.value("taskq_source_up", source="web/default") == 1
    assert "shop" not in page.text
    assert "process_" not in page.text
    assert fleet.world.urls == ["x://web"]
    only = await fleet.page("/probe?target=web/default&name[]=taskq_tasks", Accept="application/openmetrics-text")
    assert {line.split()[2] for line in only.text.splitlines() if line.startswith("# TYPE")} == {"taskq_tasks"}
    assert (await fleet.client.head("/probe?target=shop")).status == 200


async def test_a_source_that_is_down_is_a_page_that_says_so(fleet: Fleet) -> None:
    fleet.world.down.add("shop")
    page = await fleet.page("/probe?target=shop", **SCRAPER)
    assert page.value("taskq_source_up", source="shop") == 0
    assert page.value("taskq_source_errors_total", reason="connect") == 1


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "/probe?target=NAME"),
        ("?target=shp", 400, "did you mean 'shop'?"),
        ("?target=", 400, "there are shop, web/default"),
        ("?target=x://user:hunter2@shop", 400, "no such source"),
        ("?target=shop&target=web", 400, "there may be one"),
        (f"?module=flet&target={TARGET}", 400, "did you mean 'fleet'?"),
        (f"?module=&target={TARGET}", 400, "there are fleet"),
        (f"?module=fleet&module=x&target={TARGET}", 400, "there may be one"),
        ("?module=fleet", 400, "/probe?module=NAME&target=URL"),
        ("?module=fleet&target=shop", 400, "SCHEME://HOST"),
        ("?module=fleet&target=redis://exporter:hunter2@a.brokers.internal:6379/0", 400, "the module's"),
        ("?module=fleet&target=redis://a.brokers.internal:6379/0%3Fpassword=hunter2", 400, "the module's"),
        ("?module=fleet&target=redis://a.brokers.internal:6379/0%23@evil.example", 400, "the module's"),
        ("?module=fleet&target=redis://evil.example:6379/0", 403, "does not allow it"),
        ("?module=fleet&target=redis://a.brokers.internal.evil.example:6379/0", 403, "does not allow it"),
        ("?module=fleet&target=redis://169.254.169.254:6379/0", 403, "does not allow it"),
        ("?module=fleet&target=http://a.brokers.internal:6379/0", 403, "does not allow it"),
        ("?module=fleet&target=redis://a.brokers.internal:22/0", 403, "does not allow it"),
        ("?target=shop&name[]=nothing", 400, "no such family"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_nothing_of_it_is_told(
    fleet: Fleet, logs: None, capfd: pytest.CaptureFixture[str], query: str, status: int, words: str
) -> None:
    for debug in ("", "&debug=true"):
        got, text = await fleet.get(f"/probe{query}{debug if query else ''}")
        if "name[]" in query and debug:
            continue
        assert (got, words in text) == (status, True), text
        assert "hunter2" not in text
        assert "evil" not in text
    assert fleet.world.urls in ([], ["x://user:hunter2@shop"])
    told = capfd.readouterr().err
    assert "hunter2" not in told
    assert "evil" not in told


async def test_without_modules_no_url_is_a_target(tmp_path: Path) -> None:
    async with serving(tmp_path / "config.yaml", {}) as fleet:
        assert (await fleet.get(PROBE))[0] == 400
        assert fleet.world.urls == []


async def test_a_target_is_watched_with_the_modules_credentials_and_its_counters_go_on(fleet: Fleet) -> None:
    page = await fleet.page(PROBE, **SCRAPER)
    assert page.value("taskq_tasks", source=TARGET, state="ready") == 3
    assert fleet.world.urls == ["redis://exporter:hunt%40r3@a.brokers.internal:6379/0?ssl=yes"]
    assert "hunt" not in page.text
    other = "redis://b.brokers.internal:6379/0"
    await fleet.page(f"/probe?module=fleet&target={other}", **SCRAPER)
    fleet.world.ledgers[TARGET].finished("q", "t", Outcome.FAILED, n=5)

    async def failed(path: str = PROBE) -> float | None:
        return (await fleet.page(path, **SCRAPER)).value(FINISHED, outcome="failed")

    # as written otherwise, it is the same target
    assert [await failed(), await failed(), await failed(PROBE.replace("a.brokers", "A.Brokers"))] == [0, 5, 5]
    assert await failed(f"/probe?module=fleet&target={other}") is None
    assert TARGET not in (await fleet.page("/metrics")).text
    assert fleet.world.ended == []


async def test_a_target_that_nobody_asks_for_is_left(tmp_path: Path) -> None:
    async with serving(tmp_path / "config.yaml", {"fleet": {**MODULE, "idle_ttl": "100ms"}}) as fleet:
        await fleet.page(PROBE)
        async with asyncio.timeout(20):
            while fleet.world.ended != [TARGET]:
                await asyncio.sleep(0.05)
        assert (await fleet.page(PROBE)).value("taskq_source_up", source=TARGET) == 1, "it may come back"


async def test_no_more_targets_than_the_module_says(tmp_path: Path) -> None:
    async with serving(tmp_path / "config.yaml", {"fleet": {**MODULE, "max_targets": 2}}) as fleet:
        targets = [f"redis://{x}.brokers.internal:6379/0" for x in "abcd"]
        fleet.world.down.add(targets[1])
        for target in targets[:3]:  # b never answers: it makes room for c
            assert (await fleet.get(f"/probe?module=fleet&target={target}"))[0] == 200
        status, text = await fleet.get(f"/probe?module=fleet&target={targets[3]}")
        assert (status, "raise its max_targets" in text) == (503, True)
        assert (await fleet.get(f"/probe?module=fleet&target={targets[0]}"))[0] == 200, "those there are stay"
        async with asyncio.timeout(20):
            while fleet.world.ended != [targets[1]]:
                await asyncio.sleep(0.05)


async def test_a_reload_keeps_what_is_still_allowed_and_leaves_the_rest(fleet: Fleet) -> None:
    other = "redis://b.brokers.internal:6379/0"
    probe_other = f"/probe?module=fleet&target={other}"
    await fleet.page(PROBE)
    await fleet.page(probe_other)
    for target in (TARGET, other):
        fleet.world.ledgers[target].finished("q", "t", Outcome.FAILED, n=5)
    await fleet.reload({"fleet": {**MODULE, "allow": ["redis://a.*.internal:6379/*"], "password": "n3w"}})
    assert (await fleet.get(probe_other))[0] == 403
    assert (await fleet.page(PROBE)).value(FINISHED, outcome="failed") == 5, "its counters go on"
    assert fleet.world.urls[-1] == "redis://exporter:n3w@a.brokers.internal:6379/0?ssl=yes"
    async with asyncio.timeout(20):
        while other not in fleet.world.ended:
            await asyncio.sleep(0.05)
    await fleet.reload({"another": MODULE})
    assert "there are another" in (await fleet.get(PROBE))[1]
    async with asyncio.timeout(20):
        while TARGET not in fleet.world.ended:
            await asyncio.sleep(0.05)


async def test_debug_tells_what_was_done_and_no_secret(fleet: Fleet, logs: None) -> None:
    fleet.world.down.add("shop")
    status, down = await fleet.get("/probe?target=shop&debug=true", **{"X-Prometheus-Scrape-Timeout-Seconds": "10"})
    assert status == 200
    for words in (
        "URL:        x://***@shop",
        "config.yaml:",
        "timeout 5 s, the page is due in 9.5 s",
        "down: connect: nobody answers",
        'taskq_source_up{source="shop"} 0.0',
    ):
        assert words in down
    again = (await fleet.get("/probe?target=shop&debug=true"))[1]
    assert 'msg="source is down" source=shop' in again, "with lines of the log"
    status, up = await fleet.get(f"{PROBE}&debug=true")
    assert "URL:        redis://***@a.brokers.internal:6379/0?ssl=yes" in up
    assert "problem: a queue has no consumer: start one" in up
    assert f'taskq_tasks{{queue="q",source="{TARGET}",state="ready"}} 3.0' in up
    status, config = await fleet.get("/config")
    assert "fleet:" in config
    assert "hunt" not in down + again + up + config


def test_a_real_target_by_a_password_from_a_file_that_changes(redis_own: Server, tmp_path: Path) -> None:
    """Whoever asks only names the target; neither page nor log ever has the password."""
    secret, config = tmp_path / "password", tmp_path / "config.yaml"
    secret.write_text("first-passw0rd\n")
    own = {"adapter": "celery", "allow": ["redis://127.0.0.1:*/*"], "username": "probe", "password_file": str(secret)}
    config.write_text(yaml.safe_dump({"modules": {"fleet": own}}))
    path = f"/probe?module=fleet&target={redis_own.url}"
    rules = {"enabled": True, "reset_passwords": True, "keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
    with ExporterProcess(config) as exporter, redis.Redis.from_url(redis_own.url) as admin:

        def probe() -> Page:
            with urllib.request.urlopen(f"http://{exporter.address}{path}", timeout=20) as answer:
                return Page(answer.read().decode())

        assert probe().value("taskq_source_up", source=redis_own.url) == 0, "there is no such user yet"
        for password in ("first-passw0rd", "second-passw0rd"):
            admin.acl_setuser("probe", passwords=[f"+{password}"], **rules)
            admin.client_kill_filter(user="probe")
            secret.write_text(password)
            deadline = time.monotonic() + 30
            while (page := probe()).value("taskq_source_up") != 1:
                assert time.monotonic() < deadline, page.text + exporter.log
                time.sleep(0.2)
        assert page.value("taskq_source_info", server="redis", adapter="celery") == 1
        assert "passw0rd" not in page.text + exporter.log
