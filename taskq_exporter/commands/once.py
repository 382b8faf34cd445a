"""`once`: the page, printed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from taskq_exporter.adapters import Adapters
from taskq_exporter.commands.common import configured_sources, run_loop
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure, redact
from taskq_exporter.page import render
from taskq_exporter.report import SourceReport
from taskq_exporter.telemetry.command_trace import as_lines, trace_commands

__all__ = ["HELP", "add_arguments", "run"]

HELP = "collect every source once, print the page; exit status 1 if a source failed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of `once`."""
    parser.add_argument(
        "--trace",
        action="store_true",
        help="collect one source after the other, and print each command sent, with its time, on stderr;"
        " + marks those of the same round trip",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one page; returns the exit status."""
    if arguments.config_file is not None:
        configure("error", arguments.log_format)  # what fails is said once, below the page
    return run_loop(_print_page(arguments))


async def _print_page(arguments: argparse.Namespace) -> int:
    exporter = Exporter()
    failing: dict[str, str] = {}
    try:
        with trace_commands(partial(_print_commands, "detect") if arguments.trace else None):
            sources = await configured_sources(arguments, Adapters(), failing)
        for source in sources:
            exporter.add(source, follow=False)
        reports = await (_traced(exporter) if arguments.trace else exporter.gather())
        sys.stdout.buffer.write(await render(exporter, reports))
        sys.stdout.flush()
        for runner in exporter.runners.values() if arguments.config_file is not None else ():
            for text in runner.complaints():
                print(redact(f"{runner.configured.where}: source {runner.name!r} {text}"), file=sys.stderr)
    finally:
        await exporter.close()
    return 0 if all(report.up for report in reports) and not failing else 1


async def _traced(exporter: Exporter) -> list[SourceReport]:
    """The sources' reports, one after the other, so that their commands stand together."""
    reports = []
    for runner in exporter.runners.values():
        with trace_commands(partial(_print_commands, runner.name)):
            reports.append(await runner.collect(asyncio.get_running_loop().time() + runner.source.timeout + 0.25))
    return reports


def _print_commands(source: str, commands: Sequence[str], seconds: float, succeeded: bool) -> None:
    """The commands of one round trip, a line for each."""
    for line in as_lines(commands, seconds, succeeded):
        print(redact(f"{source} {line}"), file=sys.stderr)
