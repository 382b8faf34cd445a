"""What was done for one page, as text for a person: /probe?debug=true. Nothing secret stands in it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence

from aiohttp import web

from taskq_exporter.api import AdapterError
from taskq_exporter.credentials import masked
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import redact
from taskq_exporter.page import render
from taskq_exporter.report import SourceReport
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.telemetry.command_trace import as_lines, trace_commands
from taskq_exporter.text import printable

__all__ = ["debug_page"]


async def debug_page(exporter: Exporter, runner: SourceRunner, until: float, lines: Sequence[str]) -> web.Response:
    """Look at a source as for a page due at the loop's time `until`, and tell each step, with `lines` of the log."""
    seconds, before = until - asyncio.get_running_loop().time(), runner.last_success
    sent: list[str] = []
    with trace_commands(lambda *told: sent.extend(as_lines(*told))):
        connected = await _connect(runner, until)
        [report] = await exporter.gather(until, runners=[runner])
    page = await render(exporter, [report], own=False)
    steps = [
        *_source(runner, seconds),
        f"Connect:    {connected}",
        f"Collect:    {_collect(runner, report, again=report.last_success == before)}",
        *_said(report),
        *_section("Commands", sent, f"none were told of; {report.commands} were sent since the start"),
        *_section("Log", lines, "nothing about this source yet"),
    ]
    head = redact("\n".join(steps))
    return web.Response(text=f"{head}\n\nThe page:\n{page.decode()}")


async def _connect(runner: SourceRunner, until: float) -> str:
    """How connecting went; the collect that follows counts and reports an error."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + runner.source.timeout)):
            await runner.client()
    except TimeoutError:
        return "no client in time"
    except AdapterError as error:
        return f"failed: {error.reason.value}: {error}"
    except Exception as error:  # noqa: BLE001 - what is no AdapterError may say anything
        return f"failed: {type(error).__name__}; see the log"
    return f"{(time.perf_counter() - begun) * 1000:.1f} ms; a client is kept, and may connect when it is first used"


def _source(runner: SourceRunner, seconds: float) -> Iterator[str]:
    try:
        url = masked(runner.source.url())
    except AdapterError as error:
        url = f"not known: {error}"
    page = "" if math.isinf(seconds) else f", the page is due in {seconds:.1f} s"
    adapter = runner.adapter
    yield f"Source:     {printable(runner.name)}"
    yield f"Adapter:    {adapter.name} ({adapter.distribution} {adapter.version})"
    yield f"URL:        {printable(url)}"
    yield f"Configured: {runner.configured.where or 'in the environment'}"
    yield f"Deadline:   timeout {runner.source.timeout:g} s{page}"


def _collect(runner: SourceRunner, report: SourceReport, *, again: bool) -> str:
    took = f"{report.collect_seconds:.3f} s" if report.collect_seconds is not None else "not ended"
    if report.up:
        return f"{took}, up" + (f"; shown again, {report.snapshot_age or 0:.1f} s old" if again else "")
    error = runner.error
    return f"{took}, down: " + (
        f"{error.reason.value}: {printable(str(error))}" if error is not None else "no answer in time"
    )


def _said(report: SourceReport) -> Iterator[str]:
    follower = {True: "follows", False: "does not follow", None: "none"}[report.follower_up]
    yield f"Follower:   {follower}, {report.follower_restarts} restarts"
    if (shown := report.snapshot) is not None:
        problems = [f"cannot read {p.part}: {p.reason.value}: {p.message}" for p in shown.problems]
        findings = [f"{f.level}: {f.text}: {f.advice}".removesuffix(": ") for f in shown.findings]
        yield from _section("Problems", [*map(printable, problems)])
        yield from _section("Findings", [*map(printable, findings)])


def _section(title: str, lines: Sequence[str], nothing: str = "none") -> Iterator[str]:
    yield f"\n{title}:"
    yield from (f"  {line}" for line in (lines or [nothing]))
