"""Spans made and sent with OpenTelemetry's SDK; imported only where they are wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taskq_exporter import __version__
from taskq_exporter.log import redact
from taskq_exporter.telemetry.tracing import Span

__all__ = ["OtelTracer"]

log = structlog.get_logger("taskq_exporter")

_W3C = TraceContextTextMapPropagator()
#: They say each failed try, and headers that may hold a token.
_NOISY = (
    "opentelemetry.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.util",
)


class OtelTracer:
    """Makes spans, and sends them from a thread of its own; what a dead collector leaves behind is bounded."""

    def __init__(self, endpoint: str | None, sample_rate: float | None) -> None:
        """Send to an endpoint, else to that of the OTEL_* variables; the sampler likewise."""
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sampler: Sampler | None = None
        if sample_rate is not None:
            sampler = ParentBased(TraceIdRatioBased(sample_rate))
        named = OTELResourceDetector().detect().attributes  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        resource = Resource.create({"service.name": "taskq-exporter", "service.version": __version__, **named})
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint)))
        self._tracer = self._provider.get_tracer("taskq_exporter", __version__)

    def span(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """A span inside the current one."""
        return _Span(self._tracer, name, attributes)

    def record(self, name: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """A span of its own that took so long and ends now."""
        end = time.time_ns()
        begun = end - int(seconds * 1e9)
        made = self._tracer.start_span(name, context.Context(), attributes=attributes, start_time=begun)
        made.end(end)

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        """A block whose spans belong to the trace of a request."""
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        token = context.attach(_W3C.extract(carrier, context.Context()))
        try:
            yield
        finally:
            context.detach(token)

    def close(self) -> None:
        """Send what is left; may block."""
        self._provider.shutdown()


class _Span(Span):
    def __init__(self, tracer: trace.Tracer, name: str, attributes: Mapping[str, Any]) -> None:
        self._making = tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> Self:
        self._span = self._making.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._making.__exit__(*error)

    def set(self, **attributes: str | float) -> None:
        self._span.set_attributes(attributes)

    def failed(self, reason: str, message: str) -> None:
        self._span.set_attribute("reason", reason)
        self._span.set_status(trace.StatusCode.ERROR, redact(message))


class _Exporter(SpanExporter):
    """OTLP over HTTP, with one line when it begins to fail and one when it works again."""

    def __init__(self, endpoint: str | None) -> None:
        self._otlp = OTLPSpanExporter(endpoint)
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._otlp.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("spans cannot be sent: the collector does not take them", lost=len(spans))
        elif self._failing and not failing:
            log.info("spans are sent again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._otlp.shutdown()  # type: ignore[no-untyped-call]
