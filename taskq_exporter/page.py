"""The page of metrics of an exporter, as bytes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import TEXT, Format, encode
from taskq_exporter.report import SourceReport

__all__ = ["render"]

#: Not asyncio's own executor: a DNS server that hangs would hang the page.
_RENDERERS = ThreadPoolExecutor(2, thread_name_prefix="taskq-render")


async def render(
    exporter: Exporter,
    reports: list[SourceReport],
    form: Format = TEXT,
    *,
    gzip: bool = False,
) -> bytes:
    """Encode the reports and the exporter's own metrics in a thread."""
    collector = SnapshotCollector(reports)
    loop = asyncio.get_running_loop()
    collectors: list[Any] = [collector, exporter.self_metrics]
    body = await loop.run_in_executor(_RENDERERS, encode, collectors, form, gzip)
    exporter.note_violations(collector.violations)
    return body
