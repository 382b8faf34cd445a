"""Spans of OpenTelemetry, where the extra `otel` is installed and the environment asks for them; free where not.

What asks for them: TRACING_ENABLED=true, with TRACING_ENDPOINT and TRACING_SAMPLE_RATE, or else one of
OTEL_TRACES_EXPORTER=otlp, OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. The other OTEL_*
variables mean what they mean to the SDK.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import unquote

import structlog

from taskq_exporter.log import keep_secret, redact
from taskq_exporter.runtime.threads import in_thread

__all__ = ["Settings", "Span", "continued", "enabled", "record", "settings", "span", "start", "stop"]

log = structlog.get_logger("taskq_exporter")

#: Seconds that the last spans may take at exit; a collector that hangs must not hold it up.
LAST_SPANS = 2.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "TRACING_ENDPOINT")
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


class Span:
    """A span that nobody wants."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def set(self, **attributes: str | float) -> None:
        """Add attributes."""

    def failed(self, reason: str, message: str) -> None:
        """Say that the work failed."""


class Tracer(Protocol):
    """What taskq_exporter.telemetry.otel makes."""

    def span(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """A span inside the current one."""

    def record(self, name: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """A span of its own that took so long and ends now."""

    def continued(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """A block whose spans belong to the trace of a request."""

    def close(self) -> None:
        """Send what is left; may block."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; None: as the OTEL_* variables say."""

    endpoint: str | None = None
    sample_rate: float | None = None


_NOTHING = Span()
_tracer: Tracer | None = None


def enabled() -> bool:
    """Whether anybody wants spans."""
    return _tracer is not None


def span(name: str, **attributes: str | float) -> Span:
    """A context manager around a piece of work."""
    return _tracer.span(name, attributes) if _tracer else _NOTHING


def record(name: str, seconds: float, **attributes: str | float) -> None:
    """Tell of work that took so long and ends now, and that no request asked for."""
    if _tracer:
        _tracer.record(name, seconds, attributes)


def continued(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """A block whose spans belong to the trace that a request's W3C headers name, where they do."""
    return _tracer.continued(headers) if _tracer else nullcontext()


def settings(env: Mapping[str, str]) -> Settings | None:
    """What the environment asks for; None where it asks for no spans. Raises ValueError where that cannot be done."""
    asked = env.get("TRACING_ENABLED", "").strip().lower()
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or asked in ("false", "0", "no", "off"):
        return None
    ours = asked in ("true", "1", "yes", "on")
    if asked and not ours:
        raise ValueError("TRACING_ENABLED is neither true nor false")
    if not ours and (exporter == "none" or not (exporter or any(env.get(name) for name in _ENDPOINTS[:2]))):
        return None
    if exporter not in ("", "otlp") and not ours:
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter} is not one of otlp, none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if env.get(name, "http/protobuf") not in ("", "http/protobuf"):
            raise ValueError(f"{name}={env[name]} is not spoken, only http/protobuf: point it at port 4318")
    if not ours:
        return Settings()
    return Settings(_endpoint(env.get("TRACING_ENDPOINT", "")), _rate(env.get("TRACING_SAMPLE_RATE", "")))


def _endpoint(url: str) -> str | None:
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    if scheme not in ("http", "https") or not separator:
        raise ValueError("TRACING_ENDPOINT is not like http://collector:4318")
    return url if "/" in rest.rstrip("/") else f"{url.rstrip('/')}/v1/traces"


def _rate(text: str) -> float | None:
    try:
        rate = float(text) if text else None
    except ValueError:
        rate = -1.0
    if rate is not None and not 0 <= rate <= 1:
        raise ValueError(f"TRACING_SAMPLE_RATE={text} is not a number from 0 to 1")
    return rate


def start(env: Mapping[str, str] = os.environ) -> None:
    """Make spans from now on, where they are asked for; says in one line why where that cannot be done."""
    global _tracer
    for name in _ENDPOINTS:
        keep_secret(env.get(name, ""))
    for name in _HEADERS:
        for header in env.get(name, "").split(","):
            for word in unquote(header.partition("=")[2]).split()[-1:]:  # of "Bearer …" the last
                keep_secret(word, bare=True)
    try:
        asked = settings(env)
        if asked is None:
            return
        from taskq_exporter.telemetry.otel import OtelTracer  # slow: only where it is wanted

        _tracer = OtelTracer(asked.endpoint, asked.sample_rate)
    except ImportError as error:
        log.warning("no spans are made", why=f"install taskq-exporter[otel]: {error}")
    except Exception as error:  # noqa: BLE001 - no spans are no reason not to serve
        log.warning("no spans are made", why=redact(str(error)))


async def stop() -> None:
    """Send the last spans, if that takes no longer than LAST_SPANS, and make no more."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        try:
            async with asyncio.timeout(LAST_SPANS):
                await in_thread(tracer.close)
        except TimeoutError:
            log.warning("the last spans could not be sent in time", seconds=LAST_SPANS)
