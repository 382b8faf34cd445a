"""RabbitMQ: queues, what workers hold, events and remote control of real workers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from struct import pack
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from taskq_exporter_celery.adapter import connect, diagnose, grants
from taskq_exporter_celery.on_amqp import broker
from taskq_exporter_celery.on_amqp.frames import DECLARE, Frames
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.testing import Certificates, Page, Watch, start_rabbitmq, watch
from taskq_exporter.testing.rabbitmq import manage
from taskq_exporter.testing.stores import RabbitStore, with_credentials

pytestmark = pytest.mark.newest

TASKS = "taskq_tasks"
FINISHED = "taskq_tasks_finished_total"


@pytest.fixture(autouse=True)
def _ask_the_management_api_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node of the tests has new numbers twice a second."""
    monkeypatch.setattr(broker, "MANAGEMENT_EVERY", 0.5)


@pytest.fixture
def project(rabbitmq_url: str, make_project: Callable[..., Any]) -> Any:
    return make_project(rabbitmq_url)


@asynccontextmanager
async def watched(url: str, *, follow: bool = True, **options: Any) -> AsyncIterator[Watch]:
    async with watch({"adapter": "celery", "url": url, **options}, follow=follow) as watch_:
        if follow:
            await watch_.following()
        yield watch_


def make_source(url: str, **options: Any) -> Source:
    return Source(name="test", adapter="celery", url=lambda: url, options=CeleryOptions(**options))


def api(management: str) -> str:
    """Its address without credentials: the broker's are used."""
    parts = urlsplit(management)
    return f"http://{parts.hostname}:{parts.port}"


def by_queue(page: Page, family: str, **labels: str) -> dict[str, float]:
    return {queue: value for (queue,), value in page.by(family, "queue", **labels).items()}


def ready(page: Page) -> dict[str, float]:
    return by_queue(page, TASKS, state="ready")


def queues_of(management: str, url: str) -> dict[str, dict[str, Any]]:
    found = manage(management, "GET", f"/api/queues/{urlsplit(url).path[1:]}")
    return {queue["name"]: queue for queue in found}


# --- queues


async def test_a_connection_that_was_closed_meanwhile_costs_no_scrape(rabbitmq_url: str, project: Any) -> None:
    """As by a balancer to which it seemed idle."""
    project.send("ok", queue="emails")
    async with connect(make_source(rabbitmq_url)) as client:
        await client.sizes_thread().call(lambda: client.sizes.read(["emails"]))
        client.link._amqp.transport.sock.shutdown(socket.SHUT_RDWR)
        sizes = await client.sizes_thread().call(lambda: client.sizes.read(["emails"]))
        assert sizes["emails"].ready == 1


async def test_a_missing_queue_hides_no_other(rabbitmq_url: str, project: Any) -> None:
    project.send("ok", n=3, queue="emails")
    queues = {"expected": ["missing-1", "emails", "missing-2"], "exclude": ["tmp*"]}
    async with watched(rabbitmq_url, queues=queues) as source:
        page = await source.page()
        assert ready(page) == {"missing-1": 0, "emails": 3, "missing-2": 0}
        assert by_queue(page, "taskq_queue_consumers") == {"missing-1": 0, "emails": 0, "missing-2": 0}
        assert page.value("taskq_source_problems") == 0
        # a queue that an event names is known at once, also one that was missing
        project.send("ok", n=2, queue="missing-1")
        project.send("ok", queue="tmp1")
        project.send("ok", queue="new")
        page = await source.until(
            lambda p: p.value(TASKS, queue="missing-1", state="ready") == 2, "the queue that came is counted"
        )
        page = await source.until(lambda p: p.value(TASKS, queue="new", state="ready") == 1, "the new one too")
        assert not page.values(TASKS, queue="tmp1")


async def test_a_queue_that_was_deleted_is_at_0(rabbitmq_url: str, project: Any) -> None:
    project.send("ok", n=3, queue="emails")
    async with watched(rabbitmq_url, follow=False, queues={"expected": ["emails"]}) as source:
        assert (await source.page()).value(TASKS, queue="emails", state="ready") == 3
        with project.app.connection_for_write() as connection:
            connection.default_channel.queue_delete("emails")
        assert (await source.page()).value(TASKS, queue="emails", state="ready") == 0


async def test_a_broker_that_is_gone_is_down_also_where_no_queue_was(
    rabbitmq_url: str, rabbitmq_management: str
) -> None:
    async with watch({"adapter": "celery", "url": rabbitmq_url}) as watched:
        assert (await watched.page()).value("taskq_source_up") == 1
        path = f"/api/vhosts/{rabbitmq_url.rpartition('/')[2]}"
        manage(rabbitmq_management, "DELETE", path)
        assert (await watched.page()).value("taskq_source_up") == 0
        manage(rabbitmq_management, "PUT", path)  # for the fixture


async def test_the_management_api_finds_all_queues(rabbitmq_url: str, rabbitmq_management: str, project: Any) -> None:
    project.declare("empty")
    project.send("ok", n=3, queue="emails")
    with project.app.connection_for_write() as connection:
        # what else there may be: a reply queue of the result backend rpc://, a temporary one
        channel = connection.default_channel
        channel.queue_declare("b2b3c5f0-95c5-4a51-8b4d-0a4c7c6b0a52", auto_delete=True, durable=False, exclusive=False)
        channel.queue_declare("", exclusive=True)
        project.worker("-P", "solo", queues="mine").ready()
        options = {"management_url": api(rabbitmq_management)}
        async with watched(rabbitmq_url, **options) as source:
            page = await source.until(lambda p: "mine" in ready(p), "the youngest queue is listed too")
            assert ready(page) == {"empty": 0, "emails": 3, "mine": 0}
            assert by_queue(page, "taskq_queue_consumers") == {"empty": 0, "emails": 0, "mine": 1}
            page = await source.until(lambda p: p.values("taskq_broker_memory_bytes"), "a young node's memory is told")
            assert 1e6 < page.value("taskq_broker_memory_bytes") < page.value("taskq_broker_memory_limit_bytes")
            # a young queue is listed without its numbers, and each comes by itself
            page = await source.until(
                lambda p: all(
                    by_queue(p, f"taskq_{f}").keys() == ready(p).keys() for f in ("celery_unacked", "queue_bytes")
                ),
                "the API's numbers come",
            )
            assert by_queue(page, "taskq_celery_unacked") == {"empty": 0, "emails": 0, "mine": 0}
            assert by_queue(page, "taskq_queue_bytes")["emails"] > 100


async def test_a_management_api_that_is_away_takes_no_queue_with_it(rabbitmq_url: str, project: Any) -> None:
    project.send("ok", n=3, queue="emails")
    options = {"management_url": "http://127.0.0.1:1", "queues": {"expected": ["emails"]}}
    async with watched(rabbitmq_url, follow=False, **options) as source:
        page = await source.page()
        assert page.value("taskq_source_problems") == 1
        assert "management" in source.runner.complaints()[0]
        assert page.value(TASKS, queue="emails", state="ready") == 3
        assert not page.values("taskq_celery_unacked")


async def test_the_management_api_with_less_than_all_rights(rabbitmq_url: str, rabbitmq_management: str) -> None:
    store, options = RabbitStore(rabbitmq_management), {"management_url": api(rabbitmq_management)}
    add, rights, _ = grants(make_source(rabbitmq_url, **options)).splitlines()
    url = store.grant(rabbitmq_url, f"{add}\n{rights}")
    async with watched(url, follow=False, name="untagged", **options) as source:
        page = await source.page()
        assert page.value("taskq_source_errors_total", reason="permission") == 1
        assert "monitoring" in source.runner.complaints()[0]
        assert page.value("taskq_source_capability", family="taskq_celery_unacked", reason="permission") == 0
    store.grant(rabbitmq_url, "rabbitmqctl set_user_tags taskq_exporter management")
    async with watched(url, follow=False, name="tagged", **options) as source:
        page = await source.page()
        assert page.value("taskq_source_problems") == 0
        assert page.value("taskq_source_capability", family="taskq_celery_unacked", reason="none") == 1
        assert page.value("taskq_source_capability", family="taskq_broker_memory_bytes", reason="permission") == 0


async def test_sizes_that_the_broker_keeps_to_itself(rabbitmq_url: str, rabbitmq_management: str, project: Any) -> None:
    """RabbitMQ 4.2.6 and newer refuse a passive declare to users without a right on the queue."""
    project.send("ok", n=3, queue="emails")
    async with refusing_proxy(rabbitmq_url) as url:
        async with watched(url, follow=False, queues={"expected": ["emails"]}) as source:
            page = await source.page()
            assert not page.values(TASKS)
            assert page.value("taskq_source_errors_total", reason="permission") == 1
            assert "management_url" in source.runner.complaints()[0]
            before = page.value("taskq_source_commands_total")
            page = await source.page()
            assert page.value("taskq_source_problems") == 1, source.runner.error
            assert page.value("taskq_source_commands_total") == before, "each look stands in the broker's log"
        async with watched(url, follow=False, management_url=api(rabbitmq_management)) as source:
            await source.until(lambda p: ready(p) == {"emails": 3}, "the number comes")


# --- what workers hold


async def test_reserved_and_scheduled(rabbitmq_url: str, project: Any, rabbitmq_management: str) -> None:
    """Apart from ready and running, exactly, with early and late acknowledgement."""
    pool = ["-P", "threads", "-c", "2", "--prefetch-multiplier", "4"]
    async with watched(rabbitmq_url, management_url=api(rabbitmq_management)) as source:
        worker = project.worker(*pool, queues="emails")
        worker.ready()
        project.send("slow", 600, queue="emails")
        project.send("slow_late", 600, queue="emails")
        project.send("ok", n=3, queue="emails", countdown=600)
        project.send("ok", n=10, queue="emails")

        def states(page: Any) -> dict[str, float]:
            return {state: n for (state,), n in page.by(TASKS, "state", queue="emails").items()}

        def settled(page: Page) -> bool:
            told, unacked = states(page), page.value("taskq_celery_unacked", queue="emails")
            # by the broker's own count: those in hand, and the running one that acknowledges late
            return sum(told.values()) == 15 and told["running"] == 2 and unacked == 15 - told["ready"] - 1

        page = await source.until(settled, "each task is in one state, and the broker says the same")
        assert states(page)["scheduled"] == 3
        assert states(page)["reserved"] >= 5  # it takes one more for each with an ETA
        # who was not there cannot know what it holds, only how much
        async with watched(rabbitmq_url, name="late", management_url=api(rabbitmq_management)) as late:
            page = await late.until(lambda p: p.value("taskq_worker_up"), "the worker is known")
            assert page.value("taskq_celery_unacked", queue="emails") > 5
            assert not states(page).keys() & {"reserved", "scheduled", "retry"}


async def test_native_delayed_delivery(rabbitmq_url: str, make_project: Callable[..., Any]) -> None:
    """With quorum queues RabbitMQ holds tasks with an ETA: they are scheduled, and no backlog."""
    kind = {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}
    kind |= {"task_create_missing_queue_exchange_type": "topic"}
    # RabbitMQ 3.10 loses the last messages to a young quorum queue whose sender leaves without waiting for its word
    project = make_project(rabbitmq_url, broker_transport_options={"confirm_publish": True}, **kind)
    async with watched(rabbitmq_url) as source:
        worker = project.worker("-P", "solo", queues="orders").ready()
        worker.stop()
        project.send("ok", n=2, queue="orders")
        project.send("ok", n=5, queue="orders", countdown=3600)
        page = await source.until(
            lambda p: p.value(TASKS, queue="orders", state="ready") == 2, "a quorum queue is counted"
        )
    # whether it is used is looked for once in 10 minutes
    async with watched(rabbitmq_url, follow=False, name="later", queues={"expected": ["orders"]}) as source:
        page = await source.page()
        assert page.value(TASKS, queue="", state="scheduled") == 5, "on the first page"
        assert page.value(TASKS, queue="orders", state="ready") == 2
        assert {queue for (queue,) in page.by(TASKS, "queue")} == {"orders", ""}


# --- events


async def test_our_queue_is_bounded_and_goes_with_us(rabbitmq_url: str, rabbitmq_management: str, project: Any) -> None:
    project.worker("-P", "solo").ready()

    def ours() -> list[dict[str, Any]]:
        return [
            q
            for name, q in queues_of(rabbitmq_management, rabbitmq_url).items()
            if name.startswith("celeryev.taskq-exporter-")
        ]

    async with watched(rabbitmq_url):
        (queue,) = await asyncio.to_thread(ours)
        assert queue["exclusive"]
        assert queue["arguments"]["x-max-length-bytes"] <= 64 * 1024 * 1024
        assert "x-message-ttl" not in queue["arguments"]  # events of a slow moment are late, not lost
    assert not await asyncio.to_thread(ours)


async def test_events_of_a_time_when_we_were_busy_are_late_and_not_lost(rabbitmq_url: str, project: Any) -> None:
    async with watched(rabbitmq_url) as source:
        await asyncio.to_thread(project.send, "ok", n=1)
        await source.until(lambda p: p.total("taskq_tasks_enqueued_total") == 1, "events come")
        sending = asyncio.create_task(asyncio.to_thread(project.send, "ok", n=1500))
        while not sending.done():
            time.sleep(0.5)  # the event loop does nothing else
            await asyncio.sleep(0)
        page = await source.until(lambda p: p.total("taskq_tasks_enqueued_total") > 1500, "all have come")
        assert page.total("taskq_tasks_enqueued_total") == 1501
        assert page.total("taskq_source_events_dropped_total") == 0
        assert page.value("taskq_source_follower_restarts_total") == 0


async def test_a_fresh_broker_is_followed_before_the_first_worker(rabbitmq_url: str, project: Any) -> None:
    """The exchange of events is declared as a worker does it, which then agrees."""
    async with watched(rabbitmq_url) as source:
        project.send("ok", n=2)
        worker = project.worker("-P", "solo").ready()
        await source.until(lambda p: p.total(FINISHED, outcome="succeeded") == 2, "they are counted")
        worker.stop()


async def test_a_follower_without_rights_says_what_is_missing(rabbitmq_url: str, rabbitmq_management: str) -> None:
    store = RabbitStore(rabbitmq_management)
    lines = grants(make_source(rabbitmq_url)).splitlines()
    words = lines[1].split(" '")[0]
    url = store.grant(rabbitmq_url, f"{lines[0]}\n{words} '^$' '^$' '^$'")
    async with watch({"adapter": "celery", "url": url, "queues": {"expected": ["x"]}}, follow=True) as source:
        page = await source.until(lambda p: p.value("taskq_source_errors_total", reason="permission"), "it is counted")
        assert page.value("taskq_source_up") == 1
        assert page.value("taskq_source_follower_up") == 0
        with pytest.raises(AdapterError, match="taskq-exporter grants") as caught:
            async with connect(make_source(url)) as client, client.subscribe():
                pass
        assert caught.value.reason is Reason.PERMISSION


# --- remote control


async def test_ask_ends_when_all_have_answered(rabbitmq_url: str, rabbitmq_management: str, project: Any) -> None:
    first, second = (project.worker("-P", "solo", name=name) for name in ("w1@a", "w2@a"))
    first.ready(), second.ready()
    source = make_source(rabbitmq_url)
    async with connect(source) as client:
        begun = time.monotonic()
        answers = await client.ask(["ping", "active_queues"], ["w1@a", "w2@a"], 20.0)
        assert time.monotonic() - begun < 10
        assert answers.replies["ping"] == {"w1@a": {"ok": "pong"}, "w2@a": {"ok": "pong"}}
        assert [queue["name"] for queue in answers.replies["active_queues"]["w1@a"]] == ["celery"]
        assert not [n for n in queues_of(rabbitmq_management, rabbitmq_url) if n.startswith("taskq-exporter")]
        first.process.send_signal(19)  # SIGSTOP
        second.stop()
        answers = await client.ask(["ping"], ["w1@a", "w2@a", "\ud800", "n" * 300], 1.0)  # names that events told
        assert answers.replies["ping"] == {}
        assert (answers.listening, answers.gone) == ({"w1@a"}, {"w2@a"})


async def test_ask_ends_at_once_where_nobody_listens(rabbitmq_url: str, project: Any) -> None:
    async with connect(make_source(rabbitmq_url)) as client:
        for _ in range(3):  # what publishing to an exchange that is missing does comes at different times
            begun = time.monotonic()
            assert (await client.ask(["ping", "stats"], [], 20.0)).listeners == 0
            assert time.monotonic() - begun < 10
        project.worker("-P", "solo").ready().stop()  # the exchange is there now
        answers = await client.ask(["ping", "stats"], ["w1@host"], 20.0)
        assert (answers.listeners, answers.gone) == (0, {"w1@host"})
        assert time.monotonic() - begun < 20


# --- what is said to people


@pytest.mark.parametrize(
    ("change", "reason", "text"),
    [
        ({"password": "wrong"}, Reason.AUTH, "password"),
        ({"path": "/nowhere"}, Reason.CONNECT, "virtual host"),
        ({"port": 1}, Reason.CONNECT, "host and port"),
        ({"scheme": "amqps"}, Reason.CONNECT, "TLS"),
    ],
)
async def test_what_is_wrong_is_said(rabbitmq_url: str, change: dict[str, Any], reason: Reason, text: str) -> None:
    parts = urlsplit(rabbitmq_url)
    url = with_credentials(
        parts._replace(scheme=change.get("scheme", "amqp"), path=change.get("path", parts.path)).geturl(),
        str(parts.username),
        change.get("password", str(parts.password)),
        port=change.get("port"),
    )
    async with connect(make_source(url)) as client:
        with pytest.raises(AdapterError, match=text) as caught:
            await client.collect()
    assert caught.value.reason is reason
    assert str(parts.password) not in str(caught.value)


async def test_of_several_brokers_the_one_that_answers(rabbitmq_url: str, project: Any) -> None:
    project.send("ok", n=2)
    url = f"amqp://nobody:x@127.0.0.1:1//;{rabbitmq_url}"
    async with watched(url, queues={"expected": ["celery"]}) as source:
        assert (await source.page()).value(TASKS, queue="celery", state="ready") == 2


async def test_tls(certificates: Certificates, make_project: Callable[..., Any]) -> None:
    with start_rabbitmq(tls=certificates) as server:
        ssl = {"ca_certs": str(certificates.authority)}
        url = f"{server.url}?ssl_ca_certs={quote(str(certificates.authority))}"
        project = make_project(server.url, broker_use_ssl=ssl)
        async with watched(url) as source:
            project.send("ok", n=3, queue="emails")
            await source.until(lambda p: p.total("taskq_tasks_enqueued_total") == 3, "events come")
            await source.until(lambda p: p.value(TASKS, queue="emails", state="ready") == 3, "and sizes")
        async with connect(make_source(server.url)) as client:
            with pytest.raises(AdapterError, match="certificate is not trusted"):
                await client.collect()


async def test_virtual_hosts_are_sources(rabbitmq_url: str, project: Any) -> None:
    host = urlsplit(rabbitmq_url).path[1:]
    project.send("ok", n=2)
    other = urlsplit(rabbitmq_url)._replace(path="/nowhere").geturl()
    async with watched(other, virtual_hosts=[host], queues={"expected": ["celery"]}) as source:
        assert source.runner.name == f"kit/{host}"
        page = await source.page()
        assert page.value(TASKS, queue="celery", state="ready") == 2


async def test_diagnose(rabbitmq_url: str, project: Any) -> None:
    source = make_source(rabbitmq_url)
    async with connect(source) as client:
        texts = [finding.text for finding in await diagnose(source, client)]
    assert texts[0] == "no queue is known yet: AMQP cannot list them"
    assert any("no worker" in text for text in texts)


def test_grants_are_no_more_than_needed() -> None:
    text = grants(make_source("amqp://u:secret@h/shop%20a", control_exchange="a.b", management_url="http://h:15672"))
    assert "secret" not in text
    add, rights, tags = text.splitlines()
    assert add == "rabbitmqctl add_user taskq_exporter PASSWORD"
    assert rights.startswith("rabbitmqctl set_permissions -p 'shop a' taskq_exporter '^(")
    assert r"a\.b\.pidbox" in rights
    assert tags == "rabbitmqctl set_user_tags taskq_exporter monitoring"
    assert "pidbox" not in grants(make_source("amqp://h//", inspect=False))


@asynccontextmanager
async def refusing_proxy(url: str) -> AsyncIterator[str]:
    """The broker, which refuses each passive declare of a queue as RabbitMQ 4.2.6 does without a right on it.

    It is asked for something else that it refuses in the same way: a queue with a reserved name.
    """
    parts = urlsplit(url)
    name = b"amq.reserved"
    refused = pack(">HHHB", *DECLARE, 0, len(name)) + name + bytes(5)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Frames | None) -> None:
        while data := await reader.read(65536):
            if frames is None:
                writer.write(data)
                continue
            if data.startswith(b"AMQP"):
                writer.write(data[:8])
                data = data[8:]
            for frame in frames.feed(data):
                payload = refused if frame.method == DECLARE else frame.payload
                writer.write(pack(">BHI", frame.kind, frame.channel, len(payload)) + payload + b"\xce")
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(pump(reader, back, Frames()), pump(there, writer, None))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    finally:
        server.close()


async def test_the_oldest_ready_task_by_what_producers_told(rabbitmq_url: str, project: Any) -> None:
    """Nobody may look into a queue of RabbitMQ; what was sent before we listened may be older."""
    project.send("ok", queue="early")
    async with watched(rabbitmq_url) as source:
        page = await source.page()
        assert not page.values("taskq_oldest_task_age_seconds", state="ready"), "not known is not 0"
        begun = time.time()
        project.send("ok", n=2, queue="emails")
        project.send("ok", queue="early")
        page = await source.until(lambda p: p.total("taskq_tasks_enqueued_total") == 3, "the events have come")
        await asyncio.sleep(1.0)
        page = await source.until(lambda p: ready(p) == {"emails": 2, "early": 2}, "all are counted")
        ages = by_queue(page, "taskq_oldest_task_age_seconds", state="ready")
        assert ages.keys() == {"emails", "early"}
        assert all(0.9 <= age <= time.time() - begun for age in ages.values())
        assert by_queue(page, "taskq_celery_oldest_age_is_lower_bound") == {"emails": 0, "early": 1}
        project.worker("-P", "solo", queues="emails,early")
        page = await source.until(lambda p: p.total(FINISHED) == 4, "all have ended")
        assert by_queue(page, "taskq_oldest_task_age_seconds", state="ready") == {"emails": 0, "early": 0}
