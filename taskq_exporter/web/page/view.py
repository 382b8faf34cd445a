"""What a person asked to see: the query of the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlencode

__all__ = ["View"]

#: Longer ones are cut; no queue has such a name.
MAX_FILTER = 256


@dataclass(frozen=True, slots=True)
class View:
    """How the queues are sorted ("": what is stuck first), and a part of the names that are shown."""

    sort: str = ""
    reverse: bool = False
    filter: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """The view of a query string: `sort=ready`, `sort=-ready` the other way round, `filter=mail`."""
        sort = query.get("sort", "")
        return cls(sort.removeprefix("-"), sort.startswith("-"), query.get("filter", "").strip()[:MAX_FILTER])

    def link(self, key: str) -> str:
        """The address that sorts by a column, then the other way round, then by what is stuck again."""
        if self.sort != key:
            following = replace(self, sort=key, reverse=False)
        else:
            following = replace(self, sort="" if self.reverse else key, reverse=not self.reverse)
        return following.address

    @property
    def sorting(self) -> str:
        """The value of `sort` in the query string."""
        return f"-{self.sort}" if self.sort and self.reverse else self.sort

    @property
    def address(self) -> str:
        """The query string, relative to the page."""
        words = {"sort": self.sorting, "filter": self.filter}
        return f"?{urlencode({k: v for k, v in words.items() if v}, errors='replace')}"

    def matches(self, name: str) -> bool:
        """Whether a name is to be shown."""
        return self.filter.casefold() in name.casefold()
