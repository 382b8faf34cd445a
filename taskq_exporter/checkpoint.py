"""The file from which a source's counters continue after a restart: cursor, ledger and names, written together."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from taskq_exporter.ledger import LedgerView

__all__ = ["Checkpoint", "CheckpointError", "StateDir"]

FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint that cannot be read or does not fit; it was set aside."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was shown last: the ledger with its cursor, and the names of known queues and schedulers."""

    ledger: LedgerView
    names: Mapping[str, Any]
    scrapers: Mapping[str, float] = field(default_factory=dict)  # what each was shown


class StateDir:
    """The directory of checkpoints, a file for each source; one exporter at a time may use it."""

    def __init__(self, path: Path) -> None:
        """Create and lock it. Raises OSError where it cannot be written, BlockingIOError where another one uses it."""
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise
        self._written: dict[str, bytes] = {}  # digest of what stands in each file

    def close(self) -> None:
        """Let another exporter use it."""
        os.close(self._lock)

    def read(self, source: str, fingerprint: str) -> Checkpoint | None:
        """The checkpoint of a source, or None where there is none.

        Raises CheckpointError where it does not fit: it stays as NAME.json.set-aside, and counting starts at 0.
        """
        file = self._file(source)
        try:
            text = file.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(self._set_aside(file, f"cannot be read ({type(error).__name__})")) from None
        try:
            state = json.loads(text)
            if state["format"] != FORMAT:
                raise CheckpointError(self._set_aside(file, f"has format {state['format']!r}, not {FORMAT}"))
            if state["fingerprint"] != fingerprint:
                raise CheckpointError(self._set_aside(file, "counts something else: the source was changed"))
            return Checkpoint(_load_ledger(state), state["names"], state["scrapers"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(self._set_aside(file, "is damaged")) from None

    def set_aside(self, source: str) -> None:
        """Keep a source's checkpoint under another name, so that the next start does not take it."""
        file = self._file(source)
        if file.exists():
            self._set_aside(file, "")
        self._written.pop(source, None)

    def write(self, source: str, fingerprint: str, checkpoint: Checkpoint) -> None:
        """Replace a source's checkpoint atomically and durably; nothing is written where nothing changed.

        Raises OSError. It blocks: call it in a thread.
        """
        view = checkpoint.ledger
        state = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "since": view.since,
            "counters": view.counters,
            "histograms": view.histograms,
            "newest": view.newest,
            "names": checkpoint.names,
            "scrapers": checkpoint.scrapers,
        }
        text = json.dumps(state, separators=(",", ":"))[:-1] + f',"cursor":{view.cursor}}}'
        digest = hashlib.blake2b(text.encode()).digest()
        if self._written.get(source) == digest:
            return
        file = self._file(source)
        new = file.with_suffix(".new")
        with new.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
        self._written[source] = digest

    def _file(self, source: str) -> Path:
        return self._path / f"{quote(source, safe='')}.json"

    def _set_aside(self, file: Path, why: str) -> str:
        aside = file.with_suffix(".json.set-aside")
        with suppress(OSError):  # the next write replaces it
            file.replace(aside)
        return f"the checkpoint {file.name} {why}; it is kept as {aside.name}, and counting starts at 0, now"


def _load_ledger(state: Mapping[str, Any]) -> LedgerView:
    return LedgerView(
        {n: [(tuple(k), float(v), float(born)) for k, v, born in cells] for n, cells in state["counters"].items()},
        {
            n: [(tuple(k), tuple(map(int, counts)), float(total), float(born)) for k, counts, total, born in cells]
            for n, cells in state["histograms"].items()
        },
        float(state["newest"]),
        state["since"],
        json.dumps(state["cursor"]),
    )
