"""The queues as JSON: the numbers of real Celery and real django-tasks-redis, and names of every kind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer
from celery import Celery
from yarl import URL

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Problem, QueueStats, Reason, Snapshot, State, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.testing import Server
from taskq_exporter.testing.child import clean_environment
from taskq_exporter.testing.watch import watch
from taskq_exporter.view import history
from taskq_exporter.web import api
from taskq_exporter.web.api import sources_from
from taskq_exporter.web.app import make_app

APPS = Path(__file__).parents[1] / "e2e" / "apps.py"


def client_of(exporter: Exporter) -> TestClient[Any, Any]:
    return TestClient(TestServer(make_app(exporter)))


async def document(client: TestClient[Any, Any], path: str) -> tuple[int, Any]:
    """Status and decoded body; the path is sent as it is."""
    async with client.get(URL(path, encoded=True)) as answer:
        return answer.status, await answer.json()


def send(url: str, queue: str, n: int) -> None:
    app = Celery("api", broker=url)
    with app.connection_for_write() as connection:
        for _ in range(n):
            app.send_task("shop.good", queue=queue, connection=connection, ignore_result=True)
    app.close()


async def test_the_numbers_of_a_real_celery_broker(redis_url: str) -> None:
    strange = "naïve queue/with 100%"
    send(redis_url, "emails", 7)
    send(redis_url, strange, 3)
    source = {"adapter": "celery", "url": redis_url, "name": "shop"}
    async with watch(source, follow=True) as world, client_of(world.exporter) as client:
        await world.following()
        page = await world.page()
        status, emails = await document(client, "/api/queues/shop/emails")
        assert (status, emails["tasks"]["ready"]) == (200, 7)
        assert (emails["source"], emails["adapter"], emails["name"]) == ("shop", "celery", "emails")
        assert (emails["consumers"], emails["stuck"]) == (0, "no_consumers")
        status, other = await document(client, f"/api/queues/shop/{quote(strange, safe='')}")
        assert (status, other["tasks"]["ready"]) == (200, 3)
        status, listed = await document(client, "/api/sources")
        [shown] = listed["sources"]
        assert (status, shown["name"], shown["state"], shown["queues_total"]) == (200, "shop", "up", 2)
        of_page = page.by("taskq_tasks", "queue", state="ready")
        assert (
            {(q["name"],): q["tasks"]["ready"] for q in shown["queues"]} == of_page == {("emails",): 7, (strange,): 3}
        )
        assert [q["name"] for q in shown["queues"]] == ["emails", strange], "what is stuck with more"
        [read] = sources_from({**listed, "new": 1, "sources": [{**shown, "new_too": [1]}]})
        assert (read.name, [q.tasks["ready"] for q in read.queues]) == ("shop", [7, 3])


@pytest.mark.py312
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")
async def test_backlog_and_rates_of_a_real_django_project(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "EVERY", 0.0)
    monkeypatch.setattr(api, "MAX_AGE", 0.0)
    env = {**clean_environment(), "PYTHONPATH": str(APPS.parent), "REDIS": redis_url}

    async def django(*arguments: str) -> None:
        command = [sys.executable, str(APPS), *arguments]
        await asyncio.to_thread(subprocess.run, command, env=env, check=True, capture_output=True, timeout=60)

    await django("django_send", "mails", "good", "4")
    await django("django_send", "default", "bad", "2")
    source = {"adapter": "django_tasks_redis", "url": redis_url, "name": "web/default", "poll_interval": "100ms"}
    async with watch(source, follow=True) as world, client_of(world.exporter) as client:
        await world.following()
        for path in ("/api/queues/web/default/mails", "/api/queues/web%2Fdefault/mails"):
            status, mails = await document(client, path)
            assert (status, mails["tasks"]["ready"], mails["tasks"]["running"], mails["backlog"]) == (200, 4, 0, 4)
            assert mails["oldest_ready"] > 0
            assert not mails["finished_per_second"]
        await django("django_work", "mails")
        await django("django_work", "default")
        deadline = time.monotonic() + 20
        while True:
            _, mails = await document(client, "/api/queues/web/default/mails")
            _, default = await document(client, "/api/queues/web/default/default")
            if mails["finished_per_second"] and default["failed_per_second"]:
                break
            assert time.monotonic() < deadline, (mails, default)
            await asyncio.sleep(0.1)
        assert (mails["backlog"], mails["failed_per_second"]) == (0, 0)
        assert default["failed_per_second"] == default["finished_per_second"], "all of them failed"
        assert (mails["history"][0], mails["history"][-1]) == (4, 0)


async def test_a_server_that_is_gone_has_no_numbers(redis_own: Server) -> None:
    send(redis_own.url, "emails", 1)
    source = {"adapter": "celery", "url": redis_own.url, "name": "shop", "timeout": "1s"}
    async with watch(source) as world, client_of(world.exporter) as client:
        assert (await document(client, "/api/queues/shop/emails"))[0] == 200
        world.runner.history.noted_at = float("-inf")
        redis_own.stop()
        assert await document(client, "/api/queues/shop/emails") == (503, {"error": "source shop is down: connect"})
        status, listed = await document(client, "/api/sources")
        [source_now] = listed["sources"]
        assert (status, source_now["state"], source_now["reason"], source_now["queues"]) == (200, "down", "connect", [])


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, snapshot: Snapshot | Exception) -> None:
    async def collect() -> Snapshot:
        if isinstance(snapshot, Exception):
            raise snapshot
        return snapshot

    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h"})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


def queues(*names: str, **more: Any) -> Snapshot:
    return Snapshot(queues=[QueueStats(name=name, tasks={State.READY: i}) for i, name in enumerate(names, 1)], **more)


@pytest.mark.parametrize(
    ("path", "ready"),
    [
        ("web/mails", 1),
        ("web/a/b", 2),
        ("web/a%2Fb", 2),
        ("web/default%2Fmails", 3),  # the longest name counts where nothing else tells
        ("web/default/mails", 4),
        ("web%2Fdefault/mails", 4),
        ("web%2Fdefault/x%2Fy", 5),
        ("web/%D7%90%20%3Cb%3E", 4),
        ("web/%25", 5),
        ("web/?", None),
        ("web/", None),
        ("web", None),
        ("nobody/mails", None),
        ("web/nothing", None),
    ],
)
async def test_names_with_slashes_spaces_and_other_letters(exporter: Exporter, path: str, ready: int | None) -> None:
    add(exporter, "web", queues("mails", "a/b", "default/mails", "א <b>", "%"))
    add(exporter, "web/default", queues("1", "2", "3", "mails", "x/y"))
    async with client_of(exporter) as client:
        status, answer = await document(client, f"/api/queues/{path}")
        assert (status, answer.get("tasks")) == ((200, {"ready": ready}) if ready else (404, None))
        if not ready:
            assert answer["error"]
        if path == "nobody/mails":
            assert answer["error"] == "no such source; there are: web, web/default"


async def test_what_is_not_known_is_503_and_never_0(exporter: Exporter) -> None:
    keep_secret("x://user:hunter2@h")
    broken = Problem(reason=Reason.TIMEOUT, part="queues", message="hunter2 is slow")
    add(exporter, "partial", queues("mails", problems=[broken]))
    add(exporter, "unknown", Snapshot(queues=[QueueStats(name="mails")]))
    add(exporter, "down", AdapterError(Reason.AUTH, "hunter2 is wrong"))
    async with client_of(exporter) as client:
        assert (await document(client, "/api/queues/partial/mails"))[0] == 200
        status, answer = await document(client, "/api/queues/partial/other")
        assert (status, "cannot read queues: *** is slow" in answer["error"]) == (503, True)
        assert (await document(client, "/api/queues/unknown/mails"))[0] == 503
        assert await document(client, "/api/queues/down/mails") == (503, {"error": "source down is down: auth"})
        async with client.get("/api/sources") as answer_:
            assert "hunter2" not in await answer_.text()


@pytest.mark.parametrize("wrong", [[], None, {"sources": 3}, {"sources": [{"name": "s"}]}, {"sources": [{"name": 3}]}])
def test_what_no_exporter_says_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="/api/sources"):
        sources_from(wrong)
