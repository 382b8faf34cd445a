from __future__ import annotations

import asyncio
import gc

import pytest

from taskq_exporter.runtime.background import Background


async def test_a_task_that_nobody_waits_for_lives_until_it_ends_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    background, go = Background(), asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise ZeroDivisionError("nobody looks")

    background.start(fails())
    cancelled = background.start(asyncio.sleep(60))
    cancelled.cancel()
    gc.collect()
    go.set()
    async with asyncio.timeout(10):
        while background:
            await asyncio.sleep(0)
    said = capsys.readouterr().out
    assert said.count("bug in the background") == 1
    assert "nobody looks" in said
