"""The queues of all sources as lines of a terminal, what is stuck first. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from taskq_exporter.text import printable
from taskq_exporter.view.overview import STUCK_TEXT, QueueOverview, SourceOverview, by_urgency
from taskq_exporter.view.units import AT_LEAST, UNKNOWN, count, duration, rate

__all__ = ["Line", "table"]

#: Columns that a name keeps at least when the terminal is narrow.
NAME: Final = 12
GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Line:
    """A line that fits, and what it is: what a terminal may colour."""

    text: str
    kind: str = ""  # "head", "bad" or ""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[QueueOverview], str]
    wide: int = 0  # columns that the terminal must have, else it is left out


def _tasks(*states: str) -> Callable[[QueueOverview], str]:
    def cell(queue: QueueOverview) -> str:
        known = [queue.tasks[state] for state in states if state in queue.tasks]
        at_least = AT_LEAST if any(state in queue.capped for state in states) else ""
        return f"{at_least}{count(sum(known))}" if known else UNKNOWN

    return cell


COLUMNS: Final = (
    _Column("ready", _tasks("ready")),
    _Column("later", _tasks("scheduled", "retry"), 100),
    _Column("running", _tasks("running"), 60),
    _Column("failed", _tasks("failed", "dead", "lost"), 110),
    _Column("oldest", lambda queue: f"{AT_LEAST if queue.oldest_is_bound else ''}{duration(queue.oldest_ready)}"),
    _Column("longest", lambda queue: duration(queue.longest_run), 70),
    _Column("done", lambda queue: rate(queue.finished_per_second), 80),
    _Column("failing", lambda queue: rate(queue.failed_per_second), 80),
    _Column("readers", lambda queue: count(queue.consumers), 100),
)


def table(sources: Sequence[SourceOverview], width: int) -> list[Line]:
    """The table of all queues, and above it a line for each source that has something to say.

    Args:
        sources: What is known of them.
        width: Columns of the terminal. No line is longer, and no control character of a name reaches it.
    """
    lines = [Line(_cut(text, width), "bad") for source in sources if (text := _complaint(source))]
    rows = by_urgency(sources)
    columns = [column for column in COLUMNS if width >= column.wide]
    cells = [[column.title.upper() for column in columns]]
    cells += [[_plain(column.cell(queue)) for column in columns] for _, queue in rows]
    numbers = [max(map(len, column)) for column in zip(*cells, strict=True)]
    names = [("SOURCE", "QUEUE"), *((printable(source.name), printable(queue.name)) for source, queue in rows)]
    stuck = ["STUCK", *(STUCK_TEXT[queue.stuck] for _, queue in rows)]
    room = width - sum(numbers) - max(map(len, stuck)) - len(GAP) * (len(numbers) + 2)
    widths = _fit([max(_width(pair[i]) for pair in names) for i in range(2)], room)
    for i, (pair, numbers_of, why) in enumerate(zip(names, cells, stuck, strict=True)):
        left = [_pad(name, n) for name, n in zip(pair, widths, strict=True)]
        right = [cell.rjust(n) for cell, n in zip(numbers_of, numbers, strict=True)]
        text = _cut(GAP.join([*left, *right, why]).rstrip(), width)
        lines.append(Line(text, "head" if i == 0 else "bad" if why else ""))
    return lines


def _complaint(source: SourceOverview) -> str:
    """What is wrong with a source, or ""."""
    if source.state == "starting":
        return printable(f"{source.name}: no collect has ended yet")
    if source.state == "down":
        return printable(f"{source.name} is down: {source.reason or 'unknown'}: {source.message}")
    return printable(f"{source.name}: {source.message}") if source.message else ""


def _plain(cell: str) -> str:
    return "-" if cell == UNKNOWN else cell.replace(" ", "")


def _fit(widths: list[int], room: int) -> list[int]:
    """Widths of source and queue within `room`; the wider one gives first."""
    while sum(widths) > room and max(widths) > NAME:
        widths[widths.index(max(widths))] -= 1
    return widths


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # stands upon the one before
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int) -> str:
    """`text` in at most `width` columns."""
    if _width(text) <= width:
        return text
    kept, used = "", 1  # the ellipsis
    for character in text:
        used += _columns(character)
        if used > width:
            break
        kept += character
    return f"{kept}…" if width > 0 else ""


def _pad(text: str, width: int) -> str:
    text = _cut(text, width)
    return text + " " * (width - _width(text))
