"""Mistakes in a configuration, in the words of a YAML file and with what was probably meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel

__all__ = ["Location", "close_to", "model_at", "plain", "suggest"]

Location = tuple[str | int, ...]


def plain(kind: str, message: str) -> str:
    """Pydantic's message in the words of a YAML file."""
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "must be a mapping"
    if kind in ("tuple_type", "list_type"):
        return "must be a list"
    message = message.removeprefix("Value error, ")
    for theirs, ours in (
        ("Input should be", "must be"),
        ("String should", "must"),
        (", unable to parse", "; cannot read"),
    ):
        message = message.replace(theirs, ours)
    return message.removesuffix("; cannot read string as an integer").removesuffix("; cannot read string as a number")


def model_at(model: type[BaseModel], path: Location) -> type[BaseModel] | None:
    """The model at a place inside a model; None where there is none."""
    for name in path:
        if isinstance(name, str):
            kind = model.model_fields[name].annotation if name in model.model_fields else None
            models = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
            if not models:
                return None
            model = models[0]
    return model


def suggest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """The known name that `name` is close to, else all of them; begins with "; "."""
    return close_to(name, known) or (f"; there are {', '.join(sorted(known))}" if known else "")


def close_to(name: str, known: Iterable[str]) -> str:
    """The known name that `name` is close to, or ""; begins with "; "."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
