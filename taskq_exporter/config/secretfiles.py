"""Secrets that come from files, as Kubernetes and Docker mount them: read when they are used, never kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from taskq_exporter.log import keep_secret
from taskq_exporter.records import AdapterError, Reason

__all__ = ["SUFFIX", "FileSecret", "dump", "read_secret", "secret_files", "take_files"]

#: An option NAME of type SecretStr may be given as NAME_file.
SUFFIX = "_file"


def read_secret(path: Path, option: str) -> str:
    """What stands in the file, without white space around it. Raises AdapterError(auth) where it cannot be read."""
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterError(
            Reason.AUTH, f"{option} {path} cannot be read: {type(error).__name__}; check the mount and its rights"
        ) from None
    keep_secret(secret, bare=True)  # it may be a new one each time
    return secret


class FileSecret(SecretStr):
    """A secret that is read anew each time it is asked for."""

    def __init__(self, path: Path, option: str) -> None:
        super().__init__(f"{option} {path}")
        self.path, self._option = path, option

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"FileSecret({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileSecret) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def get_secret_value(self) -> str:
        """Raises AdapterError(auth) where the file cannot be read."""
        return read_secret(self.path, self._option)


def dump(model: BaseModel) -> dict[str, Any]:
    """A model as JSON has it, what is None left out: secrets are asterisks, and NAME_file is the path."""
    keys = {name: field.alias or name for name, field in type(model).model_fields.items()}
    inner = {name: value for name, value in model if isinstance(value, BaseModel | FileSecret)}
    told = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(inner))
    for name, value in inner.items():
        if isinstance(value, BaseModel):
            told[keys[name]] = dump(value)
        else:  # pydantic would read it
            told[keys[name] + SUFFIX] = str(value)
    return told


def take_files(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with a FileSecret as NAME for each NAME_file. Raises ValueError where there are both."""
    taken = dict(data)
    for name in secret_files(model):
        option = name + SUFFIX
        if option in taken:
            path = taken.pop(option)
            if taken.get(name) is not None:
                raise ValueError(f"there is either {name} or {option}")
            if not isinstance(path, str | Path) or not str(path).strip():
                raise ValueError(f"{option} must be the path of a file")
            taken[name] = FileSecret(Path(path), option)
    for name, inner in _models(model):
        if isinstance(taken.get(name), dict):
            taken[name] = take_files(inner, taken[name])
    return taken


def secret_files(model: type[BaseModel]) -> list[str]:
    """The options of a model that may come from a file."""
    return [f.alias or n for n, f in model.model_fields.items() if SecretStr in _kinds(f.annotation)]


def _models(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield field.alias or name, kind


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type and the types that it is made of."""
    yield annotation
    for inside in get_args(annotation):
        yield from _kinds(inside)
