"""The page of metrics of an exporter, as bytes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import TEXT, Format, Only, encode
from taskq_exporter.report import SourceReport
from taskq_exporter.selection import EVERY_FAMILY, Selection

__all__ = ["render"]

#: Not asyncio's own executor: a DNS server that hangs would hang the page.
_RENDERERS = ThreadPoolExecutor(2, thread_name_prefix="taskq-render")


async def render(
    exporter: Exporter,
    reports: list[SourceReport],
    form: Format = TEXT,
    *,
    gzip: bool = False,
    selection: Selection = EVERY_FAMILY,
    own: bool = True,
) -> bytes:
    """Encode what is asked for of the reports and, with `own`, of the exporter's own metrics, in a thread."""
    collector = SnapshotCollector(reports, selection)
    loop = asyncio.get_running_loop()
    collectors: list[Any] = [collector]
    if own:
        collectors.append(Only(exporter.self_metrics, selection))
    body = await loop.run_in_executor(_RENDERERS, encode, collectors, form, gzip)
    exporter.note_violations(collector.violations)
    return body
