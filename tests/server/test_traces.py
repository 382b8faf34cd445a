"""A receiver of OTLP over HTTP gets the spans of scrapes, collects and followers; one that is dead delays nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.testing import capture_logs

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Ledger, Reason, Snapshot, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.telemetry import tracing
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.watch import config_file
from taskq_exporter.web.app import make_app

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Receiver:
    """Keeps what is sent to it; answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    request = ExportTraceServiceRequest.FromString(body)
                    receiver.requests.append((self.path, dict(self.headers), request))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for _, _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    @property
    def text(self) -> str:
        return "".join(f"{path} {request}" for path, _, request in self.requests)


def attributes(of: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def add(exporter: Exporter, name: str, **hooks: Any) -> None:
    adapter = Adapters({"fake": SimpleNamespace(**{k: hookimpl(h) for k, h in hooks.items()})}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h"})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def good() -> Snapshot:
    return Snapshot()


async def down() -> Snapshot:
    raise AdapterError(Reason.CONNECT, "refused with hunter2")


async def test_a_scrape_and_its_collects_belong_to_the_callers_trace(receiver: Receiver) -> None:
    keep_secret("x://user:hunter2@h")
    tracing.start({"TRACING_ENABLED": "true", "TRACING_ENDPOINT": receiver.url})
    exporter = Exporter()
    add(exporter, "ok", collect=good)
    add(exporter, "broken", collect=down)
    async with TestClient(TestServer(make_app(exporter))) as client:
        assert (await client.get("/metrics", headers=CALLER)).status == 200
        assert (await client.get("/metrics", headers={"traceparent": "garbage"})).status == 200
    await exporter.close()
    await tracing.stop()

    assert {path for path, _, _ in receiver.requests} == {"/v1/traces"}
    scrape, other = receiver.named("scrape")
    assert (scrape.trace_id.hex(), scrape.parent_span_id.hex()) == (TRACE, PARENT)
    assert other.trace_id.hex() != TRACE
    assert other.parent_span_id == b""
    assert attributes(scrape) == {"sources": 2, "down": 1}
    collects = {attributes(s)["source"]: s for s in receiver.named("collect") if s.trace_id == scrape.trace_id}
    assert sorted(collects) == ["broken", "ok"]
    for collect in collects.values():
        assert collect.parent_span_id == scrape.span_id
        assert scrape.start_time_unix_nano <= collect.start_time_unix_nano <= collect.end_time_unix_nano
        assert collect.end_time_unix_nano <= scrape.end_time_unix_nano
    assert attributes(collects["ok"]) == {"source": "ok", "adapter": "fake"}
    assert collects["ok"].status.code == Status.STATUS_CODE_UNSET
    assert attributes(collects["broken"]) == {"source": "broken", "adapter": "fake", "reason": "connect"}
    assert collects["broken"].status.code == Status.STATUS_CODE_ERROR
    assert collects["broken"].status.message == "refused with ***"
    assert "hunter2" not in receiver.text


async def test_each_batch_of_a_follower_is_a_span_and_an_empty_one_is_none(receiver: Receiver) -> None:
    followed = asyncio.Event()

    async def follow(ledger: Ledger) -> None:
        for events in (3, 0, 5):
            if events:
                ledger.events(events - 1)
                ledger.events(1)
            ledger.following()
        followed.set()
        await asyncio.Event().wait()

    tracing.start({"OTEL_TRACES_EXPORTER": "otlp", "TRACING_ENABLED": "true", "TRACING_ENDPOINT": receiver.url})
    exporter = Exporter()
    add(exporter, "shop", collect=good, follow=follow)
    await asyncio.wait_for(followed.wait(), 20)
    await exporter.close()
    await tracing.stop()
    assert [attributes(span) for span in receiver.named("follow")] == [
        {"source": "shop", "adapter": "fake", "events": n, "commands": 0} for n in (3, 5)
    ]
    assert all(span.parent_span_id == b"" for span in receiver.named("follow"))


@pytest.mark.parametrize("rate", ["0", "1"])
async def test_only_a_part_is_sampled_where_that_is_wanted(rate: str, receiver: Receiver) -> None:
    tracing.start({"TRACING_ENABLED": "true", "TRACING_ENDPOINT": receiver.url, "TRACING_SAMPLE_RATE": rate})
    exporter = Exporter()
    for _ in range(5):
        await exporter.gather()
    with tracing.continued(CALLER):  # the caller's choice is the choice
        await exporter.gather()
    with tracing.continued({"traceparent": CALLER["traceparent"][:-1] + "0"}):
        await exporter.gather()
    await exporter.close()
    await tracing.stop()
    assert len(receiver.named("scrape")) == 1 + 5 * int(rate)


async def test_a_collector_that_refuses_is_one_line_and_so_is_its_return(receiver: Receiver) -> None:
    with capture_logs() as lines:
        tracing.start({"TRACING_ENABLED": "true", "TRACING_ENDPOINT": receiver.url})
        tracer = tracing._tracer
        assert tracer is not None
        for status in (400, 400, 200, 200):
            receiver.status = status
            with tracing.span("scrape"):
                pass
            tracer._provider.force_flush()  # type: ignore[attr-defined]
        await tracing.stop()
    assert [line["event"] for line in lines] == [
        "spans cannot be sent: the collector does not take them",
        "spans are sent again",
    ]


@dataclass
class Ended:
    status: int | None
    log: str


def run(tmp_path: Path, env: dict[str, str], meanwhile: Callable[[ExporterProcess], None]) -> Ended:
    """A whole exporter of one source that is down."""
    source = {"name": "shop", "adapter": "celery", "url": "redis://:hunter2@127.0.0.1:1/0"}
    with ExporterProcess(config_file(tmp_path, source), environment=env) as exporter:
        meanwhile(exporter)
        exporter.stop()
        return Ended(exporter.status, exporter.log)


def scrape(exporter: ExporterProcess) -> None:
    deadline = time.monotonic() + 20
    while "source is down" not in exporter.log:  # the collect at the start has ended: the scrape has one of its own
        assert time.monotonic() < deadline
        time.sleep(0.02)
    request = urllib.request.Request(f"http://{exporter.address}/metrics", headers=CALLER)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert b'taskq_source_up{source="shop"} 0' in response.read()


def test_an_exporter_sends_its_last_spans_when_it_ends(receiver: Receiver, tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cr3t-token",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    ended = run(tmp_path, env, scrape)
    assert ended.status == 0
    (mine,) = [span for span in receiver.named("scrape") if span.trace_id.hex() == TRACE]
    assert [attributes(s)["reason"] for s in receiver.named("collect") if s.parent_span_id == mine.span_id] == [
        "connect"
    ]
    _, headers, request = receiver.requests[0]
    assert headers["authorization"] == "Bearer s3cr3t-token"
    resource = attributes(request.resource_spans[0].resource)
    assert (resource["service.name"], resource["deployment.environment"]) == ("taskq-exporter", "test")
    for secret in ("s3cr3t", "hunter2"):
        assert secret not in ended.log + receiver.text
    assert "opentelemetry" not in ended.log


def test_a_collector_that_hangs_delays_neither_scrape_nor_exit(tmp_path: Path) -> None:
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        env = {
            "TRACING_ENABLED": "true",
            "TRACING_ENDPOINT": f"http://user:s3cr3t@127.0.0.1:{hanging.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        begun = time.monotonic()
        ended = run(tmp_path, env, lambda exporter: [scrape(exporter) for _ in range(5)] and None)
    assert ended.status == 0, "it was killed"
    assert time.monotonic() - begun < 60, "far below the time that an export may take"
    assert "the last spans could not be sent in time" in ended.log
    assert "s3cr3t" not in ended.log
    assert "Traceback" not in ended.log
