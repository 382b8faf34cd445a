"""Spans: what asks for them, and that they are free and harmless where nothing does or they cannot be had."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from structlog.testing import capture_logs

from taskq_exporter.log import redact
from taskq_exporter.telemetry import tracing
from taskq_exporter.telemetry.tracing import Settings, settings

OTEL = "OTEL_EXPORTER_OTLP"


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({}, None),
        ({"TRACING_ENDPOINT": "http://h:4318", "TRACING_SAMPLE_RATE": "0.5"}, None),
        ({"TRACING_ENABLED": "false", f"{OTEL}_ENDPOINT": "http://h:4318"}, None),
        ({"TRACING_ENABLED": "true", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "none", f"{OTEL}_ENDPOINT": "http://h:4318"}, None),
        ({"OTEL_SERVICE_NAME": "queues", "OTEL_METRICS_EXPORTER": "otlp"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, Settings()),
        ({f"{OTEL}_ENDPOINT": "http://h:4318"}, Settings()),
        ({f"{OTEL}_TRACES_ENDPOINT": "http://h/x", f"{OTEL}_PROTOCOL": "http/protobuf"}, Settings()),
        ({"TRACING_ENABLED": "true"}, Settings()),
        ({"TRACING_ENABLED": "True", "TRACING_ENDPOINT": "http://h:4318"}, Settings("http://h:4318/v1/traces")),
        ({"TRACING_ENABLED": "1", "TRACING_ENDPOINT": "https://h:4318/"}, Settings("https://h:4318/v1/traces")),
        (
            {"TRACING_ENABLED": "true", "TRACING_ENDPOINT": "http://h/otlp/v1/traces", "TRACING_SAMPLE_RATE": "0.25"},
            Settings("http://h/otlp/v1/traces", 0.25),
        ),
        ({"TRACING_ENABLED": "true", "TRACING_SAMPLE_RATE": "0"}, Settings(None, 0.0)),
    ],
)
def test_what_asks_for_spans(env: dict[str, str], asked: Settings | None) -> None:
    assert settings(env) == asked


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"TRACING_ENABLED": "perhaps"}, "TRACING_ENABLED is neither true nor false"),
        ({"TRACING_ENABLED": "true", "TRACING_ENDPOINT": "h:4318"}, "is not like http://collector:4318"),
        ({"TRACING_ENABLED": "true", "TRACING_SAMPLE_RATE": "10%"}, "TRACING_SAMPLE_RATE=10% is not a number from 0"),
        ({"TRACING_ENABLED": "true", "TRACING_SAMPLE_RATE": "1.5"}, "TRACING_SAMPLE_RATE=1.5 is not a number from 0"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin is not one of otlp, none"),
        ({f"{OTEL}_ENDPOINT": "http://h:4317", f"{OTEL}_PROTOCOL": "grpc"}, "grpc is not spoken, only http/protobuf"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_spans(env: dict[str, str], why: str) -> None:
    with capture_logs() as lines:
        tracing.start(env)
    assert not tracing.enabled()
    assert [line["event"] for line in lines] == ["no spans are made"]
    assert why in lines[0]["why"]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "taskq_exporter.telemetry.otel", raising=False)
    with capture_logs() as lines:
        tracing.start({"TRACING_ENABLED": "true"})
    assert not tracing.enabled()
    assert [line["why"].split(":")[0] for line in lines] == ["install taskq-exporter[otel]"]


def test_nothing_of_opentelemetry_is_imported_where_nobody_wants_spans() -> None:
    code = (
        "import sys, taskq_exporter.cli as cli\n"
        "from taskq_exporter.telemetry import tracing\n"
        "tracing.start({'OTEL_TRACES_EXPORTER': 'none'})\n"
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry', 'bcrypt', 'google'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tokens_for_the_collector_are_secrets() -> None:
    tracing.start(
        {f"{OTEL}_HEADERS": "x-team=a,authorization=Bearer%20s3cr3t", "TRACING_ENDPOINT": "http://u:hunter2@h"}
    )
    assert redact("Bearer s3cr3t, hunter2") == "Bearer ***, ***"


async def test_off_is_one_object_that_does_nothing() -> None:
    first, second = tracing.span("scrape", sources=1), tracing.span("collect", source="a")
    assert first is second
    with first as span:
        span.set(down=1)
        span.failed("connect", "refused")
    with pytest.raises(ZeroDivisionError), tracing.span("scrape"):
        raise ZeroDivisionError
    with tracing.continued({"traceparent": "00-1-1-01"}):
        tracing.record("follow", 1.0, source="a")
    await tracing.stop()


async def test_a_closing_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    ended = threading.Event()

    class Hanging:
        def close(self) -> Any:
            ended.wait(60)

    monkeypatch.setattr(tracing, "_tracer", Hanging())
    monkeypatch.setattr(tracing, "LAST_SPANS", 0.05)
    with capture_logs() as lines:
        await tracing.stop()
    assert not ended.is_set()
    assert not tracing.enabled()
    assert [line["event"] for line in lines] == ["the last spans could not be sent in time"]
    ended.set()
