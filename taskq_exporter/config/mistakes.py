"""The mistakes in one YAML file, gathered with their places and said all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from taskq_exporter.config.explain import Location, model_at, plain, suggest
from taskq_exporter.config.yamlpos import Document, Position, YamlError, load

__all__ = ["ConfigError", "Mistakes", "read_yaml"]

_M = TypeVar("_M", bound=BaseModel)


class ConfigError(Exception):
    """The configuration cannot be used; `str()` is a line for each mistake, FILE:LINE:COLUMN: what to do."""


def read_yaml(path: Path) -> Document:
    """The data of a YAML file with its places. Raises ConfigError where it cannot be read or is none."""
    try:
        return load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}:1:1: not valid YAML: the file is not UTF-8") from None
    except YamlError as error:
        raise ConfigError(_lines(path, error.problems)) from None


class Mistakes:
    """Those of one file."""

    def __init__(self, path: Path, document: Document) -> None:
        self._path, self._document = path, document
        self._found: set[tuple[Position, str]] = set()

    def add(self, where: Location, message: str, *, key: bool = False) -> None:
        """Note one at a value, or at its key."""
        place = tuple(part if isinstance(part, int) else str(part) for part in where)
        self._found.add((self._document.position(place, key=key), message))

    def fail(self) -> None:
        """Raise ConfigError with every one, where there are any."""
        if self._found:
            raise ConfigError(_lines(self._path, sorted(self._found)))

    def validate(self, model: type[_M], data: object, at: Location, also: Iterable[str] = ()) -> _M | None:
        """The model of what stands at a place; None where mistakes were noted. `also` are keys checked elsewhere."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for e in error.errors(include_url=False, include_context=True, include_input=False):
                self._explain(model, e["type"], e["msg"], (*at, *e["loc"]), at, also)
            return None

    def unknown_keys(self, data: Mapping[str, Any], at: Location, known: tuple[str, ...]) -> None:
        """Note each key that is not known."""
        for key in data:
            if key not in known:
                self.add((*at, key), f"unknown key {key!r}{suggest(str(key), known)}", key=True)

    def _explain(
        self, model: type[BaseModel], kind: str, message: str, where: Location, at: Location, also: Iterable[str]
    ) -> None:
        if kind == "extra_forbidden":
            inside = model_at(model, where[len(at) : -1])
            known = [f.alias or n for n, f in inside.model_fields.items()] if inside else []
            if inside is model:
                known += also
            self.add(where, f"unknown key {str(where[-1])!r}{suggest(str(where[-1]), known)}", key=True)
        elif kind == "missing":
            self.add(where[:-1], f"missing key {str(where[-1])!r}")
        else:
            message = plain(kind, message)
            name = ".".join(str(part) for part in where[len(at) :])
            self.add(where, f"{name}: {message}" if name else message)


def _lines(path: Path, problems: Iterable[tuple[Position, str]]) -> str:
    return "\n".join(f"{path}:{place.line}:{place.column}: {message}" for place, message in problems)
