"""The page of metrics of an exporter, as bytes."""

from __future__ import annotations

import asyncio
import math

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
    hold_back: float = math.inf,
) -> bytes:
    """Encode the reports and the exporter's own metrics in a thread; `hold_back` as SnapshotCollector takes it."""
    collector = SnapshotCollector(reports, hold_back=hold_back)
    body = await asyncio.to_thread(encode, [collector, exporter.self_metrics], form, gzip)
    exporter.note_violations(collector.violations)
    return body
