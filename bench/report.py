"""What a benchmark says: rows with a bar, and whether each was met."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

_World = TypeVar("_World")
Verdict = Literal["PASS", "FAIL", "SKIPPED", "shown"]


class SkippedError(Exception):
    """What a row compares with cannot be had here."""


@dataclass(frozen=True)
class Row:
    """One line of the result. `verdict` is "shown" where there is no bar."""

    name: str
    value: str
    against: str = ""
    bar: str = ""
    verdict: Verdict = "shown"


def bar(name: str, value: str, against: str, text: str, met: bool) -> Row:
    """A row that passes or fails."""
    return Row(name, value, against, text, "PASS" if met else "FAIL")


def median(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """A median with its range, for people."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f}{unit} [{low:.{digits}f}..{high:.{digits}f}]"


@dataclass(frozen=True)
class Topic(Generic[_World]):
    """Rows that are measured on the same servers, in groups.

    Args:
        world: Starts the servers; given whether the run is a quick one.
        groups: By name.
    """

    world: Callable[[bool], AbstractContextManager[_World]]
    groups: Mapping[str, Callable[[_World], Iterator[Row]]]


class Report:
    """Prints rows as they come, and all of them as a table in Markdown at the end."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def take(self, rows: Iterable[Row]) -> None:
        """Print rows as they are measured."""
        for row in rows:
            self._rows.append(row)
            print(f"{row.verdict:<7} {row.name}: {row.value}", end="")
            print(f" (against {row.against})" if row.against else "", end="")
            print(f"; bar: {row.bar}" if row.bar else "", flush=True)

    @contextmanager
    def group(self, name: str) -> Iterator[None]:
        """Rows that are measured together: where they cannot be, that is a row, and the others go on."""
        print(f"--- {name}", file=sys.stderr, flush=True)
        try:
            yield
        except SkippedError as error:
            self.take([Row(name, str(error), verdict="SKIPPED")])
        except Exception as error:  # noqa: BLE001 - a subject that breaks must not hide what the others do
            print(error, file=sys.stderr)
            last = str(error).strip().rpartition("\n")[2]
            self.take([Row(name, f"{type(error).__name__}: {last}", verdict="FAIL")])

    def table(self) -> str:
        """All rows in Markdown."""
        lines = ["| what | measured | against | bar | |", "|---|---|---|---|---|"]
        lines += [f"| {r.name} | {r.value} | {r.against} | {r.bar} | {r.verdict} |" for r in self._rows]
        return "\n".join(lines)

    def failed(self, *, allow_skipped: bool) -> bool:
        """Whether the run is bad: a bar was missed, or nothing was measured."""
        bad = {"FAIL"} if allow_skipped else {"FAIL", "SKIPPED"}
        return not self._rows or any(row.verdict in bad for row in self._rows)
