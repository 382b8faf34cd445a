"""HTML as functions that escape by default."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "join", "tag"]

_VOID = frozenset({"input", "link", "meta", "path"})


class Markup(str):
    """Text that is HTML already. Any other `str` is escaped where it becomes a part of one."""

    __slots__ = ()


def escape(text: str) -> str:
    """`text` as it stands between tags and in attributes, in double quotes."""
    return text if isinstance(text, Markup) else html.escape(text)


def join(parts: Iterable[str], between: str = "") -> Markup:
    """The parts one after the other."""
    return Markup(escape(between).join(map(escape, parts)))


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """An element. `class_` is `class`, `aria_label` is `aria-label`; None and False leave an attribute out."""
    words = [name]
    for key, value in attributes.items():
        if value is True:
            words.append(_attribute(key))
        elif value is not None and value is not False:
            words.append(f'{_attribute(key)}="{html.escape(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
