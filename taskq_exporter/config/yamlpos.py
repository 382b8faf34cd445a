"""YAML with positions: the data of a file, and where each key and value of it stands."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Document", "Position", "YamlError", "load"]

#: How deep a document may be nested, so that no reader of it runs out of stack.
MAX_DEPTH = 100
#: How many values it may have, those behind an alias counted each time.
MAX_VALUES = 100_000

Path = tuple[str | int, ...]
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file, both counted from 1."""

    line: int
    column: int


class YamlError(Exception):
    """The file is not YAML, or has a key twice; `problems` has all of them."""

    def __init__(self, problems: list[tuple[Position, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(slots=True)
class Document:
    """What a file holds."""

    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)

    def position(self, path: Path, *, key: bool = False) -> Position:
        """Where a value stands (or its key); the nearest parent's place where it does not exist."""
        places = {**self.values, **self.keys} if key else self.values
        while path and path not in places:
            path = path[:-1]
        return places.get(path, Position(1, 1))


def load(text: str) -> Document:
    """Parse one YAML document. Raises YamlError."""
    document = Document()
    problems: list[tuple[Position, str]] = []
    loader = Loader(text)
    try:
        _check_depth(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), document, problems, ())
            if not problems:
                document.data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "cannot be parsed").split("\n")[0]
        if "cannot start any token" in problem:
            problem += "; indent with spaces, not tabs, and quote values that begin with @ or `"
        raise YamlError([(_position(mark), f"not valid YAML: {problem}")]) from None
    except yaml.YAMLError as error:
        raise YamlError([(Position(1, 1), f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    except (ValueError, RecursionError):
        raise YamlError(
            [(Position(1, 1), "not valid YAML: a value cannot be read, or it is nested too deep")]
        ) from None
    finally:
        loader.dispose()
    if problems:
        raise YamlError(problems)
    return document


def _check_depth(text: str) -> None:
    """Before a tree is built: libyaml's own recursion overflows the stack of the process."""
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _too_deep(mark: Any) -> YamlError:
    return YamlError([(_position(mark), f"nested more than {MAX_DEPTH} deep")])


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _walk(
    node: Any, path: Path, document: Document, problems: list[tuple[Position, str]], parents: tuple[int, ...]
) -> None:
    if id(node) in parents:
        problems.append((_position(node.start_mark), "an alias stands inside of what it names"))
        return
    if len(path) > MAX_DEPTH:  # by aliases
        raise _too_deep(node.start_mark)
    if len(document.values) >= MAX_VALUES:
        raise YamlError([(_position(node.start_mark), f"more than {MAX_VALUES:,} values, repeated aliases included")])
    parents = (*parents, id(node))
    document.values[path] = _position(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*path, i), document, problems, parents)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, Position] = {}
        for key, value in node.value:
            at = _position(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                problems.append((at, "a key must be plain text"))
                continue
            name = key.value
            if name in seen and name != "<<":
                first = seen[name]
                problems.append((at, f"key {name!r} stands twice; it is first in line {first.line}"))
            seen.setdefault(name, at)
            document.keys[(*path, name)] = at
            _walk(value, (*path, name), document, problems, parents)
