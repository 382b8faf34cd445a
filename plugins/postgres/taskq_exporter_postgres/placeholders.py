"""The few words in braces that the text of a statement may hold, and what they become: identifiers and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql
from taskq_exporter_sql import TableName

from taskq_exporter_postgres.spread import OfQueue

__all__ = ["Blanks", "above_of", "check_text", "render"]

_BLANK = re.compile(r"\{([a-z_]+)(?::([^{}]*))?\}")
_WITHOUT = ("schema", "limit", "since", "since_ms", "each")
_WITH = ("window", "above", "table", "queue")
_ALIAS = re.compile(r"[a-z_][a-z0-9_]*")
_COLUMN = re.compile(r"(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*")
_ABOVE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class Blanks:
    """What the placeholders of one statement become."""

    schema: str
    limit: int
    share: sql.Composable | None = None  # what {limit} is of one queue
    of_queue: OfQueue = lambda _: sql.SQL("true")
    indexes: Sequence[TableName] = ()  # that the statement reads through
    each: str = ""  # what the * of the statement's `each` stands for
    since: float = 0.0  # Unix seconds
    above: Callable[[str], int] = lambda _: 0
    window: Callable[[sql.Composable], sql.Composable] = lambda _: sql.SQL("true")


def check_text(text: str) -> str:
    """The text. Raises ValueError where it has a placeholder that there is none of."""
    for match in _BLANK.finditer(text):
        name, argument = match[1], match[2]
        if name not in (_WITHOUT if argument is None else _WITH):
            known = ", ".join([*(f"{{{n}}}" for n in _WITHOUT), *(f"{{{n}:…}}" for n in _WITH)])
            raise ValueError(f"unknown placeholder {match[0]}; there are {known}; write a list as ARRAY['…']")
        if name == "window" and not _ALIAS.fullmatch(argument):
            raise ValueError(f"{match[0]}: name the alias of the table whose rows are counted, e.g. {{window:j}}")
        if name == "above" and not _ABOVE.fullmatch(argument):
            raise ValueError(f"{match[0]}: name the table and its ascending column, e.g. {{above:events.id}}")
        if name == "queue" and not _COLUMN.fullmatch(argument):
            raise ValueError(f"{match[0]}: name the column with the queue's name, e.g. {{queue:j.queue}}")
        if name == "table" and argument.count("*") != 1:
            raise ValueError(f"{match[0]}: the * stands for what {{each}} is")
    if text.rstrip().endswith(";") and "CREATE INDEX" not in text.upper():
        raise ValueError("one SELECT, without a semicolon")
    return text


def above_of(text: str) -> set[str]:
    """The TABLE.COLUMN of its placeholders {above:TABLE.COLUMN}."""
    return {match[2] for match in _BLANK.finditer(text) if match[1] == "above"}


def render(text: str, blanks: Blanks) -> sql.Composable:
    """The text with its placeholders filled in; it must have passed check_text()."""
    parts: list[sql.Composable] = []
    end = 0
    for match in _BLANK.finditer(text):
        parts += [_plain(text[end : match.start()]), _fill(match[1], match[2], blanks)]
        end = match.end()
    return sql.Composed([*parts, _plain(text[end:])])


def _fill(name: str, argument: str | None, blanks: Blanks) -> sql.Composable:
    match name, argument:
        case "schema", _:
            return sql.Identifier(blanks.schema)
        case "limit", _:
            return blanks.share or sql.Literal(blanks.limit)
        case "each", _:
            return sql.Literal(blanks.each)
        case "since", _:
            return sql.SQL("to_timestamp({})").format(sql.Literal(blanks.since))
        case "since_ms", _:
            return sql.Literal(int(blanks.since * 1000))
        case "window", str(alias):
            return blanks.window(sql.Identifier(alias, "xmin"))
        case "above", str(column):
            return sql.Literal(blanks.above(column))
        case "queue", str(column):
            return blanks.of_queue(sql.Identifier(*column.split(".")))
        case "table", str(pattern):
            return TableName(blanks.schema, pattern.replace("*", blanks.each)).identifier
    raise ValueError(f"placeholder {name}")


def _plain(text: str) -> sql.SQL:
    return sql.SQL(text)
