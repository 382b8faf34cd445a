"""A source watched by the real core, configured through real YAML, without the HTTP server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from taskq_exporter.adapters import Adapters
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.config.load import load_config
from taskq_exporter.exporter import Exporter
from taskq_exporter.exposition import negotiate
from taskq_exporter.page import render
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.testing.page import Page

__all__ = ["Watch", "config_file", "watch"]


@dataclass(frozen=True)
class Watch:
    """A running exporter with one source."""

    exporter: Exporter
    runner: SourceRunner

    async def page(self, seconds: float = float("inf")) -> Page:
        """Collect and render a page, waiting at most `seconds` for the source."""
        return Page((await self._render("text/plain", seconds)).decode())

    async def openmetrics(self) -> str:
        """A page in the OpenMetrics format."""
        return (await self._render("application/openmetrics-text; version=1.0.0")).decode()

    async def _render(self, accept: str, seconds: float = float("inf")) -> bytes:
        until = asyncio.get_running_loop().time() + seconds
        return await render(self.exporter, await self.exporter.gather(until), negotiate(accept))

    async def until(self, condition: Callable[[Page], object], what: str, seconds: float = 30.0) -> Page:
        """The first page that meets a condition. Fails where none does within `seconds`."""
        page = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    page = await self.page()
                    if condition(page):
                        return page
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{page.text if page else ''}") from None

    async def following(self) -> None:
        """Wait until the follower follows, where the adapter has one."""
        if self.runner.adapter.has("follow"):
            await self.until(lambda _: self.runner.following, "the follower follows")


def config_file(directory: Path, *sources: Mapping[str, Any], state_dir: Path | None = None) -> Path:
    """Write a configuration file; `$` in any text is kept as it is."""
    state = {"state": {"dir": str(state_dir)}} if state_dir else {}
    path = directory / "taskq-exporter.yaml"
    path.write_text(yaml.safe_dump({**state, "sources": [dict(s) for s in sources]}).replace("$", "$$"), "utf-8")
    return path


@asynccontextmanager
async def watch(
    source: Mapping[str, Any], *, follow: bool = False, state_dir: Path | None = None
) -> AsyncIterator[Watch]:
    """Watch one source: `adapter`, `url` and further options as in the configuration file; each page collects anew."""
    anew = {"name": "kit", "min_interval": 0, "duty_cycle": None}
    with tempfile.TemporaryDirectory() as directory:
        (configured,) = load_config(config_file(Path(directory), {**anew, **source}), Adapters()).sources
    exporter = Exporter(StateDir(state_dir) if state_dir else None)
    try:
        yield Watch(exporter, exporter.add(configured, follow=follow))
    finally:
        await exporter.close()
