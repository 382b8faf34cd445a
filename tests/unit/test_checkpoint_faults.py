"""What a checkpoint or a disk may do wrong, and what must not come of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import configured

from taskq_exporter import exporter as exporter_module
from taskq_exporter.api import Snapshot
from taskq_exporter.checkpoint import Checkpoint, StateDir
from taskq_exporter.counts.cells import LedgerView
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render


async def good() -> Snapshot:
    return Snapshot()


async def page(exporter: Exporter) -> str:
    return (await render(exporter, await exporter.gather())).decode()


ODD: list[Callable[[dict[str, Any]], object]] = [
    lambda s: s.update(names=[]),
    lambda s: s.update(names={"queue": 1}),
    lambda s: s.update(names={"queue": {"q": "x"}}),
    lambda s: s.update(scrapers={"a": "x"}),
    lambda s: s["counters"]["taskq_tasks_finished_total"][0].__setitem__(0, ["q"]),
    lambda s: s["counters"]["taskq_tasks_finished_total"][0].__setitem__(0, ["q", 5, "failed", ""]),
    lambda s: s["counters"]["taskq_tasks_finished_total"][0].__setitem__(1, -5),
    lambda s: s["counters"]["taskq_tasks_finished_total"][0].__setitem__(1, float("nan")),
    lambda s: s["histograms"]["taskq_task_wait_duration_seconds"][0].__setitem__(1, [1, 2]),
    lambda s: s.update(since="abc"),
    lambda s: s.pop("newest"),
]


@pytest.mark.parametrize("spoil", ODD)
async def test_an_odd_checkpoint_is_set_aside(tmp_path: Path, spoil: Callable[[dict[str, Any]], object]) -> None:
    source = configured({"collect": good})
    view = LedgerView(
        counters={"taskq_tasks_finished_total": [(("q", "t", "failed", ""), 7.0, 1.5)]},
        histograms={"taskq_task_wait_duration_seconds": [(("q",), (1, *[0] * 14), 0.5, 1.5)]},
        newest=1.5,
        since=1.0,
    )
    state = StateDir(tmp_path)
    state.write("s", source.fingerprint(), Checkpoint(view, {"queue": {"q": 1.0}}))
    content = json.loads((tmp_path / "s.json").read_text())
    spoil(content)
    (tmp_path / "s.json").write_text(json.dumps(content))
    exporter = Exporter(state)
    exporter.add(source)
    text = await page(exporter)
    assert 'taskq_source_up{source="s"} 1.0' in text
    assert "taskq_tasks_finished_total{" not in text
    assert (tmp_path / "s.json.set-aside").exists()
    await exporter.close()


async def test_one_source_without_a_checkpoint_is_said_once_and_long_names_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateDir(tmp_path)
    write = state.write

    def broken(source: str, *rest: Any, **more: Any) -> None:
        if source == "bad":
            raise OSError(13, "Permission denied")
        write(source, *rest, **more)

    monkeypatch.setattr(state, "write", broken)
    exporter = Exporter(state)
    for name in ("bad", "队" * 90):
        exporter.add(configured({"collect": good}, name=name))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert "taskq_exporter_checkpoint_last_write_successful 0.0" in await page(exporter)
    assert len(list(tmp_path.glob("*.json"))) == 1
    await exporter.close()


async def test_a_write_that_hangs_and_then_fails_costs_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, go = StateDir(tmp_path), threading.Event()
    write = state.write

    def hangs_then_fails(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(state, "write", write)
        go.wait(10)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(state, "write", hangs_then_fails)
    monkeypatch.setattr(exporter_module, "WRITE_TIMEOUT", 0.2)
    exporter = Exporter(state)
    exporter.add(configured({"collect": good}))
    assert "taskq_exporter_checkpoint_last_write_successful 0.0" in await page(exporter)
    asyncio.get_running_loop().call_later(0.05, go.set)  # while the next page waits for it
    assert "taskq_exporter_checkpoint_last_write_successful 1.0" in await page(exporter)
    await exporter.close()
