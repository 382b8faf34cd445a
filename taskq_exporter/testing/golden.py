"""Golden pages: what a known world looks like as a whole, without the values that no two runs share."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

__all__ = ["check_golden", "masked"]

#: The exporter's own families say nothing of an adapter.
_OWN = re.compile(r"^(# (HELP|TYPE) )?(taskq_exporter_|process_|python_)")
#: Measured times, ages and amounts: that they are there is what a golden page shows.
_MEASURED = re.compile(
    r"^(taskq_\w*(_seconds|_seconds_sum|_bytes|_commands_total|_source_events_total|source_series"
    r"|_connections|_connections_limit)(\{.*\})?) \S+$"
)
#: Which commands a server has run, and in which states its connections are, differs too.
_OF_SERVER = re.compile(r'^(taskq_\w+_(?:connections|commands_total)\{.*(?:command|state)=")[^"]+"')
_VERSION = re.compile(r'((?:server|version)=")[^"]+"')


def masked(text: str) -> str:
    """A page with `*` for what differs from run to run."""
    lines = (_OF_SERVER.sub('\\1*"', line) for line in text.splitlines() if not _OWN.match(line))
    masks = (_VERSION.sub('\\1*"', _MEASURED.sub("\\1 *", line)) for line in lines)
    return "".join(f"{line}\n" for line in dict.fromkeys(masks))  # one for all commands


def check_golden(text: str, golden: Path) -> None:
    """Fail where a page differs from the golden one; with TASKQ_UPDATE_GOLDEN=1 write it instead."""
    page = masked(text)
    if os.environ.get("TASKQ_UPDATE_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(page, "utf-8")
    expected = golden.read_text("utf-8")
    changed = "\n".join(
        difflib.unified_diff(expected.splitlines(), page.splitlines(), "golden", "now", lineterm="", n=0)
    )
    assert page == expected, f"the page has changed; TASKQ_UPDATE_GOLDEN=1 accepts it:\n{changed}"
