"""Each kind of Redis broker that kombu knows, with the URL and the options that the application has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from taskq_exporter_celery.adapter import connect
from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.testing import Page, start_redis, start_redis_sentinel, watch

pytestmark = pytest.mark.newest

MakeProject = Callable[..., Any]


def enqueued(n: int) -> Callable[[Page], bool]:
    return lambda page: page.total("taskq_tasks_enqueued_total") == n


@pytest.mark.parametrize(
    "how_it_went",
    ["killed", pytest.param("failed over", marks=pytest.mark.full)],  # the old master lets go after 10 seconds
)
async def test_sentinel_is_followed_to_the_new_master(make_project: MakeProject, how_it_went: str) -> None:
    """Both by collects and by the events' subscription."""
    with start_redis_sentinel() as setup:
        how = {"master_name": setup.service}
        project = make_project(setup.url, broker_transport_options=how)
        async with watch({"adapter": "celery", "url": setup.url, **how}, follow=True) as watched:
            await watched.following()
            project.send("ok", n=3)
            page = await watched.until(enqueued(3), "events come through the master")
            assert page.value("taskq_tasks", queue="celery", state="ready") == 3

            with redis.Redis.from_url(setup.master.url) as client:
                assert client.wait(1, 30_000) == 1
            await asyncio.to_thread(setup.kill_master if how_it_went == "killed" else setup.fail_over)
            await watched.until(lambda p: p.value("taskq_source_follower_restarts_total"), "the old master is left")
            await watched.following()
            make_project(setup.url, broker_transport_options=how).send("ok", n=2)
            await watched.until(enqueued(5), "events come through the new master")
            await watched.until(
                lambda p: p.value("taskq_tasks", queue="celery", state="ready") == 5, "collects read the new master"
            )


async def test_sentinels_that_do_not_answer_are_passed_over(make_project: MakeProject) -> None:
    with start_redis_sentinel() as setup:
        how = {"master_name": setup.service}
        make_project(setup.url, broker_transport_options=how).send("ok", n=3)
        url = f"sentinel://127.0.0.1:1;{setup.url}"
        async with watch({"adapter": "celery", "url": url, **how}) as watched:
            assert (await watched.page()).value("taskq_tasks", queue="celery", state="ready") == 3


async def test_credentials_and_database_of_a_master_behind_sentinels(make_project: MakeProject) -> None:
    """As kombu has it: those of the URL's first part are the master's; what Sentinels want is in sentinel_kwargs."""
    with start_redis_sentinel() as setup:
        with redis.Redis.from_url(setup.master.url) as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
        first, _, _ = setup.url.partition(";")
        url = first.replace("sentinel://", "sentinel://app:secret@") + "/2"
        how = {"master_name": setup.service}
        make_project(url, broker_transport_options=how).send("ok", n=3)
        with redis.Redis.from_url(setup.master.url.removesuffix("0") + "2") as client:
            assert client.llen("celery") == 3
        async with watch({"adapter": "celery", "url": url, **how}) as watched:
            assert (await watched.page()).value("taskq_tasks", queue="celery", state="ready") == 3
        with redis.Redis(port=setup.ports[0]) as client:
            client.execute_command("ACL", "SETUSER", "default", "resetpass", ">of-the-sentinel")
        async with watch({"adapter": "celery", "url": url, **how}) as watched:
            page = await watched.page()
            assert page.value("taskq_source_up") == 0
            assert page.value("taskq_source_errors_total", reason="auth") == 1
        how["sentinel_kwargs"] = {"password": "of-the-sentinel"}
        async with watch({"adapter": "celery", "url": url, **how}) as watched:
            assert (await watched.page()).value("taskq_tasks", queue="celery", state="ready") == 3
            assert "of-the-sentinel" not in repr(watched.runner.source)


@pytest.mark.parametrize("name", ["", "another"])
async def test_a_wrong_master_name_says_so(name: str) -> None:
    with start_redis_sentinel() as setup:
        url = setup.url.replace("sentinel://", "sentinel://:hunter2@")
        options = CeleryOptions(master_name=name)
        source = Source(name="test", adapter="celery", url=lambda: url, options=options, timeout=5)
        with pytest.raises(AdapterError, match="master_name") as error:
            async with connect(source) as client:
                await client.collect()
        assert error.value.reason is Reason.CONNECT
        assert "hunter2" not in str(error.value)


def test_the_topic_of_a_rolling_upgrade() -> None:
    """Kombu before 5.4 forgot to put the database into the name; newer ones publish there too with this option."""
    assert Layout(CeleryOptions(sentinel_fanout_compat=True), 3).events == "/{db}.celeryev/*"
    assert Layout(CeleryOptions(), 3).events == "/3.celeryev/*"


async def test_events_of_a_rolling_upgrade(make_project: MakeProject) -> None:
    """None is counted twice, though they are published twice."""
    with start_redis_sentinel() as setup:
        how = {"master_name": setup.service, "sentinel_fanout_compat": True}
        project = make_project(setup.url, broker_transport_options=how)
        async with watch({"adapter": "celery", "url": setup.url, **how}, follow=True) as watched:
            await watched.following()
            project.send("ok", n=3)
            await watched.until(enqueued(3), "the events came")
            project.send("ok", n=1)
            await watched.until(enqueued(4), "the events came once")


@pytest.mark.parametrize(
    "query",
    [
        "ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={authority}",
        "ssl_cert_reqs=none",
        "ssl_ca_certs={authority}&ssl_check_hostname=false",
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_tls(make_project: MakeProject, certificates: Any, query: str, scheme: str) -> None:
    """With kombu's options in the query, by which it also speaks TLS where the scheme does not say so."""
    with start_redis(tls=certificates) as server:
        address = server.url.partition("://")[2].partition("?")[0]
        url = f"{scheme}://{address}?{query.format(authority=certificates.authority)}"
        project = make_project(url)
        async with watch({"adapter": "celery", "url": url}, follow=True) as watched:
            await watched.following()
            project.send("ok", n=3)
            page = await watched.until(enqueued(3), "the events came")
            assert page.value("taskq_tasks", queue="celery", state="ready") == 3


async def test_a_certificate_that_nobody_vouches_for(certificates: Any) -> None:
    """Kombu does not look at certificates where the URL does not ask for it; we do, and say what to write."""
    with start_redis(tls=certificates) as server:
        url = server.url.partition("?")[0]
        source = Source(name="test", adapter="celery", url=lambda: url, options=CeleryOptions())
        with pytest.raises(AdapterError, match="ssl_ca_certs"):
            async with connect(source) as client:
                await client.collect()


async def test_unix_socket(tmp_path: Path, make_project: MakeProject) -> None:
    socket = tmp_path / "redis.sock"
    with start_redis("--unixsocket", str(socket)):
        url = f"redis+socket://{socket}?virtual_host=2"
        project = make_project(url)
        async with watch({"adapter": "celery", "url": url}, follow=True) as watched:
            await watched.following()
            project.send("ok", n=3)
            page = await watched.until(enqueued(3), "the events came")
            assert page.value("taskq_tasks", queue="celery", state="ready") == 3


async def test_the_second_of_several_brokers(make_project: MakeProject) -> None:
    """It is watched from when the first one fails until it fails itself, as workers use it."""
    with start_redis() as first, start_redis() as second:
        url = f"{first.url};{second.url}"
        make_project(first.url).send("ok", n=1)
        async with watch({"adapter": "celery", "url": url}, follow=True) as watched:
            await watched.following()
            assert (await watched.page()).value("taskq_tasks", queue="celery", state="ready") == 1
            first.stop()
            project = make_project(url)
            project.send("ok", n=2)
            await watched.until(
                lambda p: p.value("taskq_tasks", queue="celery", state="ready") == 2, "the second one is watched"
            )
            await watched.following()
            project.send("ok", n=1)
            await watched.until(lambda p: p.total("taskq_tasks_enqueued_total") > 0, "its events too")
            first.start()
            page = await watched.page()
            assert page.value("taskq_source_up") == 1
            assert page.value("taskq_tasks", queue="celery", state="ready") == 3


async def test_none_of_several_brokers(make_project: MakeProject) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0;redis://:hunter2@127.0.0.1:2/0"
    source = Source(name="test", adapter="celery", url=lambda: url, options=CeleryOptions())
    with pytest.raises(AdapterError, match="refused") as error:
        async with connect(source):
            pass
    assert "hunter2" not in str(error.value)
