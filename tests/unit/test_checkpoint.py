from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from taskq_exporter.checkpoint import Checkpoint, CheckpointError, StateDir
from taskq_exporter.counts.cells import LedgerView

VIEW = LedgerView(
    counters={"taskq_tasks_finished_total": [(("q", "t", "failed", ""), 7.0, 1.5)]},
    histograms={"taskq_task_wait_duration_seconds": [(("q",), (1, 0, 2), 0.1 + 0.2, 1.5)]},
    since=12.25,
    cursor='{"ids": ["\\u00e4"]}',
)


def test_what_is_written_is_read_exactly(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "new" / "dir")
    state.write("web/a ü", "f", Checkpoint(VIEW, {"queue": {"q": 1.0}}))
    read = state.read("web/a ü", "f", ((), (1.0, 2.0)))
    assert read == Checkpoint(VIEW, {"queue": {"q": 1.0}})
    assert state.read("other", "f") is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "", "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: json.dumps({**json.loads(text), "format": 99}), "format 99"),
        (lambda text: json.dumps({**json.loads(text), "counters": {"x": 1}}), "damaged"),
        (lambda text: json.dumps({**json.loads(text), "fingerprint": "g"}), "changed"),
    ],
)
def test_what_does_not_fit_is_set_aside(tmp_path: Path, spoil: object, why: str) -> None:
    state = StateDir(tmp_path)
    state.write("s", "f", Checkpoint(VIEW, {}))
    file = tmp_path / "s.json"
    spoiled = spoil(file.read_text())  # type: ignore[operator]
    file.write_text(spoiled)
    with pytest.raises(CheckpointError, match=why):
        state.read("s", "f")
    assert (tmp_path / "s.json.set-aside").read_text() == spoiled
    assert state.read("s", "f") is None


def test_one_exporter_at_a_time(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with pytest.raises(BlockingIOError):
        StateDir(tmp_path)
    state.close()
    StateDir(tmp_path).close()


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.write("s", "f", Checkpoint(VIEW, {}))
    before = (tmp_path / "s.json").stat()
    state.write("s", "f", Checkpoint(VIEW, {}))
    assert (tmp_path / "s.json").stat().st_ino == before.st_ino
    state.write("s", "f", Checkpoint(VIEW, {"queue": {"q": 1.0}}))
    assert (tmp_path / "s.json").stat().st_ino != before.st_ino
    assert stat.S_ISREG((tmp_path / "s.json").stat().st_mode)
