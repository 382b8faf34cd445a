"""The file from which a source's counters continue after a restart: cursor, ledger and names, written together."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.schema import CAPPED_LABELS, FAMILIES, RUN_BOUNDS, WAIT_BOUNDS, WITH_WORKER

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

    def read(
        self, source: str, fingerprint: str, bounds: tuple[Sequence[float], Sequence[float]] = (RUN_BOUNDS, WAIT_BOUNDS)
    ) -> Checkpoint | None:
        """The checkpoint of a source, or None where there is none; `bounds` are those of its run and wait histograms.

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
            return _load(state, bounds)
        except CheckpointError:
            raise
        except Exception:  # noqa: BLE001 - whatever is odd about the file, the source starts without it
            raise CheckpointError(self._set_aside(file, "is damaged")) from None

    def write(self, source: str, fingerprint: str, checkpoint: Checkpoint, *, anew: bool = False) -> None:
        """Replace a source's checkpoint atomically, synced; nothing is written where nothing changed.

        With `anew` the old one is set aside. Raises OSError. It blocks: call it in a thread, one at a time.
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
        if anew and file.exists():
            self._set_aside(file, "")
        new = file.with_suffix(".new")
        with new.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
        self._written[source] = digest

    def _file(self, source: str) -> Path:
        name = quote(source, safe="")
        if len(name) > 200:  # file systems take 255 bytes
            name = f"{name[:150]}-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
        return self._path / f"{name}.json"

    def _set_aside(self, file: Path, why: str) -> str:
        aside = file.with_suffix(".json.set-aside")
        with suppress(OSError):  # the next write replaces it
            file.replace(aside)
        return f"the checkpoint {file.name} {why}; it is kept as {aside.name}, and counting starts at 0, now"


def _load(state: Mapping[str, Any], bounds: tuple[Sequence[float], Sequence[float]]) -> Checkpoint:
    """Raises any Exception where a value is not what write() writes."""
    counters = {
        name: [(_labels(name, labels), _amount(value), _amount(born)) for labels, value, born in cells]
        for name, cells in state["counters"].items()
    }
    histograms = {
        name: [
            (_labels(name, labels), _buckets(name, counts, bounds), _amount(total), _amount(born))
            for labels, counts, total, born in cells
        ]
        for name, cells in state["histograms"].items()
    }
    since = None if state["since"] is None else _amount(state["since"])
    view = LedgerView(counters, histograms, _amount(state["newest"]), since, json.dumps(state["cursor"]))
    names = {
        label: {str(value): _amount(at) for value, at in values.items()}
        for label, values in state["names"].items()
        if label in CAPPED_LABELS
    }
    return Checkpoint(view, names, {str(who): _amount(born) for who, born in state["scrapers"].items()})


def _labels(name: str, labels: Sequence[Any]) -> tuple[str, ...]:
    # of others the ledger itself sees whether they fit
    if name in FAMILIES and len(labels) != len(FAMILIES[name].labels) + (name in WITH_WORKER):
        raise ValueError(name)
    if not all(isinstance(x, str) for x in labels):
        raise ValueError(name)
    return tuple(labels)


def _buckets(name: str, counts: Sequence[Any], bounds: tuple[Sequence[float], Sequence[float]]) -> tuple[int, ...]:
    if name in FAMILIES and len(counts) != len(bounds[0] if "_run_" in name else bounds[1]) + 1:
        raise ValueError(name)
    return tuple(int(_amount(n)) for n in counts)


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(value)
    return float(value)
