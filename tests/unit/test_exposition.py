from __future__ import annotations

import zlib

import pytest
from prometheus_client import CollectorRegistry, GCCollector

from taskq_exporter.exposition import OPENMETRICS, TEXT, Format, encode, negotiate, wants_gzip

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
    ],
)
def test_gzip(header: str | None, wanted: bool) -> None:
    assert wants_gzip(header) is wanted


def test_gzip_is_a_gzip_of_the_same_page() -> None:
    collector = GCCollector(registry=CollectorRegistry())
    plain = encode([collector], TEXT, gzip=False)
    assert zlib.decompress(encode([collector], TEXT, gzip=True), wbits=31).splitlines()[0] == plain.splitlines()[0]
