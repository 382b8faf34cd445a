"""`top`: the queues live in a terminal, what is stuck first."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from io import TextIOWrapper

from taskq_exporter.adapters import Adapters
from taskq_exporter.commands.common import UsageError, configured_sources, run_loop
from taskq_exporter.config.durations import duration
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure
from taskq_exporter.text import printable
from taskq_exporter.view.overview import SourceOverview
from taskq_exporter.view.status import overview
from taskq_exporter.view.table import Line, table
from taskq_exporter.view.terminal import Screen, is_terminal
from taskq_exporter.view.units import number_of
from taskq_exporter.web.api import sources_from
from taskq_exporter.web.client import FetchError, add_url_argument, fetch_json

__all__ = ["HELP", "add_arguments", "run"]

HELP = "the queues live in a terminal, what is stuck first; q ends it"

#: Columns where no terminal says how many there are.
WIDE = 160
#: The shortest --interval (seconds).
SHORTEST = 0.5
#: So often, and every so many seconds, `--once` asks whether the followers follow: some tell alone what runs.
SETTLE_TRIES, SETTLE_EVERY = 40, 0.05

Read = Callable[[], Awaitable[Sequence[SourceOverview]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of `top`."""
    add_url_argument(parser)
    parser.add_argument("--interval", default="2s", metavar="DURATION", help="between two looks, default 2s")
    parser.add_argument(
        "--once",
        action="store_true",
        help="print the table and end, as without a terminal; exit status 1 if a source is down",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the table until told to end; returns the exit status."""
    if arguments.url and arguments.config_file is not None:
        raise UsageError("top reads either --url or --config.file")
    try:
        interval = max(duration(arguments.interval), SHORTEST)
    except ValueError as error:
        raise UsageError(f"--interval: {error}") from None
    configure("error", arguments.log_format)  # the table says what is down
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no ellipsis
    return run_loop(_run(arguments, interval))


async def _run(arguments: argparse.Namespace, interval: float) -> int:
    once = arguments.once or not is_terminal(sys.stdout)
    try:
        async with _reader(arguments, settle=once) as read:
            if once:
                return _print(await read())
            logging.disable(logging.CRITICAL)  # a line would stand in the middle of the table
            return await _watch(read, interval, arguments.url or "")
    except FetchError as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def _reader(arguments: argparse.Namespace, *, settle: bool) -> AsyncIterator[Read]:
    """What looks at the sources: a running exporter, else one of our own."""
    if arguments.url:
        yield lambda: _fetch(arguments.url)
        return
    exporter = Exporter()
    try:
        for source in await configured_sources(arguments, Adapters()):
            exporter.add(source)
        if settle:
            await exporter.gather()
            for _ in range(SETTLE_TRIES):
                if all(runner.following is not False for runner in exporter.runners.values()):
                    break
                await asyncio.sleep(SETTLE_EVERY)
        yield lambda: overview(exporter)
    finally:
        await exporter.close()


async def _fetch(url: str) -> Sequence[SourceOverview]:
    try:
        return sources_from(await fetch_json(f"{url.rstrip('/')}/api/sources"))
    except ValueError as error:
        raise FetchError(f"{url}: {error}") from None


def _print(sources: Sequence[SourceOverview]) -> int:
    width = shutil.get_terminal_size((WIDE, 24)).columns
    for line in table(sources, width):
        print(line.text)
    return 1 if any(source.state == "down" for source in sources) else 0


class _View:
    """What is shown: the last look, and why there is no newer one."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.sources: Sequence[SourceOverview] = ()
        self.at = ""
        self.error = ""

    def lines(self, columns: int, rows: int) -> list[Line]:
        """What fits, and a line that says how much does not."""
        queues = sum(source.queues_total or 0 for source in self.sources)
        what = f"{number_of(len(self.sources), 'source')}, {number_of(queues, 'queue')}"
        words = [self.at, what, self._where, "q ends"] if self.at else ["looking", self._where]
        lines = [Line("  ".join(filter(None, words))[:columns])]
        if self.error:
            lines.append(Line(printable(self.error)[:columns], "bad"))
        if self.at:
            lines += table(self.sources, columns)
        if len(lines) > rows:
            over = len(lines) - rows + 1
            lines[rows - 1 :] = [Line(f"and {over} more"[:columns])]
        return lines


async def _watch(read: Read, interval: float, where: str) -> int:
    view, wake, stop = _View(where), asyncio.Event(), asyncio.Event()

    def end() -> None:
        stop.set()
        wake.set()

    with Screen() as screen:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end)
        loop.add_signal_handler(signal.SIGWINCH, wake.set)
        loop.add_signal_handler(signal.SIGTSTP, screen.suspend)
        loop.add_signal_handler(signal.SIGCONT, wake.set)
        if screen.keys is not None:
            loop.add_reader(screen.keys, lambda: end() if _ends(screen.typed()) else None)
        looking = asyncio.create_task(_look(view, read, interval, wake))
        looking.add_done_callback(lambda _: end())
        while not stop.is_set():
            screen.draw(view.lines(*screen.size))
            await wake.wait()
            wake.clear()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        if screen.keys is not None:
            loop.remove_reader(screen.keys)
    return 0


def _ends(typed: str) -> bool:
    """Whether q was typed, or the terminal is gone. An arrow key is an escape and letters."""
    return not typed or (not typed.startswith("\x1b") and "q" in typed.lower())


async def _look(view: _View, read: Read, interval: float, wake: asyncio.Event) -> None:
    """Keep the view new."""
    while True:
        try:
            view.sources, view.error = await read(), ""
            view.at = time.strftime("%H:%M:%S")
        except FetchError as error:  # the exporter may come back
            view.error = str(error)
        wake.set()
        await asyncio.sleep(interval)
