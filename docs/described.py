"""Options of pydantic models as rows of a table: type, default, and the comment that stands at each in the source."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from taskq_exporter.config.durations import duration

__all__ = ["Option", "comments", "options", "table"]

_UNITS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"), (0.001, "ms"))
_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "file",
    SecretStr: "secret, or NAME_file",
    Any: "any",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `name` with its place, as `schedulers[].name` or `sql.jobs.NAME.sql`."""

    name: str
    kind: str
    default: str
    text: str


def options(model: type[BaseModel], at: str = "") -> Iterator[Option]:
    """The options of a model, those of models inside it after each."""
    texts = comments(model)
    for name, field in model.model_fields.items():
        place = f"{at}{field.alias or name}"
        kind = _kind(field.annotation, field.metadata)
        yield Option(place, kind, _default(field, kind), texts.get(name, ""))
        for inner, suffix in _models(field.annotation):
            yield from options(inner, f"{place}{suffix}.")


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment of each field: lines `#:` above it, or behind it on its last line."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        source = textwrap.dedent(inspect.getsource(cls))
        said = {
            token.start[0]: token.string
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        lines = source.splitlines()
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)  # noqa: S101 - it is the source of a class
        for node in body.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            above: list[str] = []
            row = node.lineno - 1
            while said.get(row, "").startswith("#:") and lines[row - 1].lstrip().startswith("#:"):
                above.insert(0, said[row].removeprefix("#:").strip())
                row -= 1
            behind = said.get(node.end_lineno or 0, "").lstrip("#: ")
            text = " ".join(above) or behind
            if text:
                found[node.target.id] = text[0].upper() + text[1:].removesuffix(".")
    return found


def _kind(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    if any(getattr(item, "func", None) is duration for item in metadata):
        return "duration"
    origin, inside = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _kind(inside[0], annotation.__metadata__)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(kind) for kind in inside if kind is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{_yaml(word)}`" for word in inside)
    if origin in (tuple, list, frozenset, set):
        return f"list of {_kind(inside[0])}"
    if origin in (dict, Mapping):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _models(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The models inside a type, and how one of several is named: [] in a list, .NAME in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
    origin = get_origin(annotation)
    suffix += "[]" if origin in (tuple, list) else ".NAME" if origin in (dict, Mapping) else ""
    for inside in get_args(annotation):
        yield from _models(inside, suffix)


def _default(field: FieldInfo, kind: str) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    if kind == "duration":
        return f"`{_duration(value)}`"
    return f"`{_yaml(value)}`"


def _duration(seconds: float) -> str:
    return next((f"{seconds / n:g}{unit}" for n, unit in _UNITS if seconds >= n and seconds % n == 0), f"{seconds:g}s")


def _yaml(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a markdown table, after an empty one."""
    lines = ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]
