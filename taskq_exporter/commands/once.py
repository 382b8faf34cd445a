"""`once`: the page, printed."""

from __future__ import annotations

import argparse
import sys

from taskq_exporter.adapters import Adapters
from taskq_exporter.commands.common import configured_sources, run_loop
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure, redact
from taskq_exporter.page import render

__all__ = ["HELP", "add_arguments", "run"]

HELP = "collect every source once, print the page; exit status 1 if a source failed"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print one page; returns the exit status."""
    if arguments.config_file is not None:
        configure("error", arguments.log_format)  # what fails is said once, below the page
    return run_loop(_print_page(arguments))


async def _print_page(arguments: argparse.Namespace) -> int:
    exporter = Exporter()
    failing: dict[str, str] = {}
    try:
        for source in await configured_sources(arguments, Adapters(), failing):
            exporter.add(source, follow=False)
        reports = await exporter.gather()
        sys.stdout.buffer.write(await render(exporter, reports))
        sys.stdout.flush()
        for runner in exporter.runners.values() if arguments.config_file is not None else ():
            for text in runner.complaints():
                print(redact(f"{runner.configured.where}: source {runner.name!r} {text}"), file=sys.stderr)
    finally:
        await exporter.close()
    return 0 if all(report.up for report in reports) and not failing else 1
