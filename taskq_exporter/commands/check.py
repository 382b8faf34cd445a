"""`check`: what each source shows, what it cannot, and what to change."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from taskq_exporter.adapters import Adapters
from taskq_exporter.commands.checkup import lines
from taskq_exporter.commands.common import UsageError, configured_sources, run_loop
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure
from taskq_exporter.text import printable
from taskq_exporter.view.doctor import Report, as_json, examine, from_json, only
from taskq_exporter.view.terminal import is_terminal
from taskq_exporter.web.client import FetchError, add_url_argument, fetch_json

__all__ = ["HELP", "add_arguments", "run"]

HELP = (
    "what each source shows, what it may not read, what it cannot measure and what to change;"
    " exit status 1 if one is down or has a problem"
)

#: Columns of the text where no terminal says how many, and at most.
WIDTH, WIDEST = 80, 100
#: Seconds that a running exporter may take: it listens to workers.
PATIENCE = 45.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of `check`."""
    add_url_argument(parser)
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default text")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=5.0,
        metavar="N",
        help="how long to listen for what only events tell, default 5; without --url",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; returns the exit status."""
    if arguments.url and arguments.config_file is not None:
        raise UsageError("check reads either --url or --config.file")
    # the text says what is down; of the environment the log alone says what could not be searched
    configure("error" if arguments.url or arguments.config_file else "warn", arguments.log_format)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
    progress = _Progress()
    try:
        report = run_loop(_fetch(arguments, progress) if arguments.url else _examine(arguments, progress))
    except FetchError as error:
        raise UsageError(str(error)) from None
    finally:
        progress.clear()
    if arguments.format == "json":
        print(json.dumps(as_json(report), indent=2))
    else:
        width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDEST) if sys.stdout.isatty() else WIDTH
        colour = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
        for line in lines(report, width=max(width, 40), colour=colour):
            print(line)
    return 0 if report.healthy else 1


async def _fetch(arguments: argparse.Namespace, progress: _Progress) -> Report:
    progress(f"waiting for {arguments.url}")
    document = await fetch_json(f"{arguments.url.rstrip('/')}/api/check", timeout=PATIENCE)
    try:
        report = from_json(document)
    except ValueError as error:
        raise UsageError(f"{arguments.url}: {error}") from None
    _check_names(arguments.source, [source.name for source in report.sources])
    return only(report, arguments.source) if arguments.source else report


async def _examine(arguments: argparse.Namespace, progress: _Progress) -> Report:
    progress("looking for sources")
    exporter = Exporter()
    try:
        sources = await configured_sources(arguments, Adapters())
        _check_names(arguments.source, [source.config.name for source in sources])
        for source in sources:
            if not arguments.source or source.config.name in arguments.source:
                exporter.add(source)
        progress(f"connecting to {', '.join(exporter.runners)}")
        reports = await exporter.gather()
        if any(report.up and report.follower_up is not None for report in reports):
            for left in range(math.ceil(arguments.seconds), 0, -1):
                progress(f"listening to {', '.join(exporter.runners)}: {left} s")
                await asyncio.sleep(min(1.0, arguments.seconds))
        return await examine(exporter, progress=progress)
    finally:
        await exporter.close()


def _check_names(wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
            raise UsageError(f"--source: there is no source {name!r}; {hint}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 3600")
    return seconds


class _Progress:
    """One line that says what is being done, where somebody looks on."""

    def __init__(self) -> None:
        self._shown = is_terminal(sys.stdout) and is_terminal(sys.stderr)

    def __call__(self, text: str) -> None:
        if self._shown:
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{printable(text)[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
