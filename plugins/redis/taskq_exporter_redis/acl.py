"""Rights in Redis, as the line that a person gives to redis-cli."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["acl_line"]

_HOW = (
    "# In redis-cli of Redis 7 or Valkey, with a password in place of PASSWORD. Lines add up, also those of other\n"
    "# sources; ACL DELUSER taskq_exporter begins anew.\n"
)


def acl_line(*selectors: Iterable[str]) -> str:
    """The line that gives the user `taskq_exporter` what each selector allows, beside what it has.

    Selectors are apart: a command of one is not allowed on the keys of another. Verified with Redis 7.0.15.
    """
    # a selector's words are split at spaces: in a pattern, any character stands for one
    texts = ("(" + " ".join(re.sub(r"\s", "?", word) for word in words) + ")" for words in selectors)
    return f"{_HOW}ACL SETUSER taskq_exporter on >PASSWORD {' '.join(map(_quoted, texts))}"


def _quoted(text: str) -> str:
    """In the double quotes of redis-cli, which a shell reads alike."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
