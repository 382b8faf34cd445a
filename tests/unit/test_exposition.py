from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, GCCollector
from prometheus_client.exposition import generate_latest as text
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from taskq_exporter.exposition import OPENMETRICS, TEXT, Format, encode, negotiate, wants_gzip
from taskq_exporter.selfmetrics import SelfMetrics

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0;q=0.1, text/plain; version=0.0.4", TEXT),
        ("application/openmetrics-text; version=1.0.0; q=0", TEXT),
        ("application/openmetrics-text; version=99.0.0", TEXT),
        ("application/openmetrics-text; version=abc", TEXT),
        ("application/openmetrics-text; q=abc", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        (";;;,,,=", TEXT),
        ("application/*", OPENMETRICS),
        ("text/plain;q=0, */*", OPENMETRICS),
        ("application/openmetrics-text;q=0, application/*;q=0.9, text/*;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.5, */*;q=0.8", TEXT),
        ("text/plain, application/openmetrics-text", TEXT),
        ("application/openmetrics-text, text/plain", OPENMETRICS),
        ("application/openmetrics-text;version=9.0.0, */*;q=0.1", TEXT),
        ("application/openmetrics-text;q=inf, text/plain;q=0.1", TEXT),
        ("application/vnd.google.protobuf", TEXT),
    ],
)
def test_negotiation(accept: str | None, form: Format) -> None:
    assert negotiate(accept) is form


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, False),
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("x-gzip", False),
        ("gzip;q=0.5, identity", False),
        ("identity;q=0.5, gzip", True),
        ("gzip;q=nan", False),
    ],
)
def test_gzip(header: str | None, wanted: bool) -> None:
    assert wants_gzip(header) is wanted


def test_gzip_is_a_gzip_of_the_same_page() -> None:
    collector = GCCollector(registry=CollectorRegistry())
    plain = encode([collector], TEXT, gzip=False)
    assert zlib.decompress(encode([collector], TEXT, gzip=True), wbits=31).splitlines()[0] == plain.splitlines()[0]


class Fixed:
    """A collector that says the same each time."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


NUMBERS = [
    *(0, 1, 10**6, 10**7, 1234567, 2**53 + 1, 10**22, -3, True),
    *(0.0, -0.0, 0.1, 1e-9, 1e5, 999999.5, 1e6, 1234567.125, 1e16, 1e22, 1.7976931348623157e308, -1e9),
    *(math.inf, -math.inf, math.nan),
]
NAMES = ["", "plain", 'a"quote', "back\\slash", "new\nline", "\\n", "grüße 日本 \U0001f600", "_other"]


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
def test_a_page_is_what_the_library_would_write(form: Format) -> None:
    gauge = Metric("g", 'Help with "quotes", a \\ and a\nline.', "gauge")
    for i, number in enumerate(NUMBERS):
        gauge.add_sample("g", {"source": "s", "n": str(i)}, number)
    counter = Metric("c", "Help.", "counter")
    for name in NAMES:
        counter.add_sample("c_total", {"source": name, "queue": name, "A": "x"}, 1)
    histogram = Metric("h", "Help.", "histogram")
    for suffix, labels in (("bucket", {"le": "1.0"}), ("bucket", {"le": "+Inf"}), ("count", {}), ("sum", {})):
        histogram.add_sample(f"h_{suffix}", labels, 2)
    collectors = [Fixed(gauge, counter, histogram), Fixed(Metric("empty", "Help.", "gauge"))]
    collectors.append(Fixed(*SelfMetrics().collect()))
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    assert encode([*collectors], form, gzip=False) == (openmetrics if form.openmetrics else text)(registry)
