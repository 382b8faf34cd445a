"""The page of metrics of an exporter, as bytes."""

from __future__ import annotations

import asyncio

from taskq_exporter.collector import SnapshotCollector, SourceReport
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import TEXT, Format, encode

__all__ = ["render"]


async def render(
    exporter: Exporter,
    reports: list[SourceReport],
    form: Format = TEXT,
    *,
    gzip: bool = False,
) -> bytes:
    """Encode the reports and the exporter's own metrics in a thread."""
    collector = SnapshotCollector(reports)
    body = await asyncio.to_thread(encode, [collector, exporter.self_metrics], form, gzip)
    exporter.note_violations(collector.violations)
    return body
