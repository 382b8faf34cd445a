"""What the conformance kit's tests are made of: the world watched by the core, and what each page must be like."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taskq_exporter.adapters import Adapter, Adapters
from taskq_exporter.api import Reason, Snapshot, State
from taskq_exporter.config.sources import make_source
from taskq_exporter.testing.page import Page, parse_series
from taskq_exporter.testing.processes import Server
from taskq_exporter.testing.watch import Watch, watch
from taskq_exporter.testing.world import World

__all__ = ["SLACK", "Checks", "open_files", "scenario", "settle", "threads"]

#: Seconds that a page may take beyond the source's timeout.
SLACK = 1.0
#: Seconds that what is closed may take to be gone.
SETTLE = 3.0


def scenario(check: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a check in an event loop of its own."""

    @functools.wraps(check)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            asyncio.run(check(*args, **kwargs))
        finally:
            gc.collect()  # what is left unclosed warns here, and not in some later test

    return run


class Checks:
    """The parts of AdapterConformance that are no tests."""

    adapter: ClassVar[str]
    #: The whole page of the world before its work, without what differs from run to run; see check_golden.
    golden: ClassVar[Path | None] = None
    #: Seconds that one collect may take.
    timeout: ClassVar[float] = 2.0
    #: How many scrapes must leave everything as it is.
    scrapes: ClassVar[int] = 100

    @pytest.fixture
    def world(self) -> World:
        """The author's: a server with known tasks."""
        raise NotImplementedError("give the test class a fixture `world` that returns a taskq_exporter.testing.World")

    def watch(self, world: World, *, url: str = "", follow: bool = False) -> AbstractAsyncContextManager[Watch]:
        """The world as the core watches it."""
        at = {"url": url or world.url} if self.loaded.options.needs_url else {}
        return watch({"adapter": self.adapter, **at, "timeout": self.timeout, **world.options}, follow=follow)

    @property
    def loaded(self) -> Adapter:
        """The adapter as the core loads it."""
        return Adapters().get(self.adapter)

    async def collect(self, watched: Watch) -> Snapshot:
        """What the adapter itself says, before the core adds and drops anything."""
        source = make_source(watched.runner.configured)
        async with self.loaded.connect(source) as client:
            return await self.loaded.collect(source, client)

    def server(self, world: World) -> Server:
        """The server that this check may stop."""
        if world.server is None:
            pytest.skip("the world has no server= of its own")
        return world.server

    def check_up(self, watched: Watch, page: Page) -> None:
        """The page has the whole source, and nothing went wrong for it."""
        assert page.value("taskq_source_up") == 1, f"the source is down: {watched.runner.error}"
        assert page.value("taskq_source_problems") == 0, watched.runner.complaints()
        # not from the page: what is wrong with a page is counted when it is done
        errors = dict(watched.runner.failures.counts)
        assert not errors, f"errors by reason: {errors}; see the log"

    def check_counts(self, world: World, page: Page) -> None:
        """The page has the world's tasks, exactly."""
        expected = {(q, State(s).value): n for q, states in world.tasks.items() for s, n in states.items()}
        seen = page.by("taskq_tasks", "queue", "state")
        assert {k: n for k, n in seen.items() if n or k in expected} == expected
        series = page.series()
        for text, value in world.series.items():
            name, labels = parse_series(text)
            assert series.get((name, labels | {("source", "kit")})) == value, text

    async def check_down(self, watched: Watch, reasons: set[Reason]) -> None:
        """Twice, because the second collect meets a client that has just failed."""
        for _ in range(2):
            begun = time.perf_counter()
            page = await watched.page()
            took = time.perf_counter() - begun
            assert took < self.timeout + SLACK, f"the page took {took:.1f} s"
            assert page.value("taskq_source_up") == 0
            assert not page.values("taskq_tasks"), "counts of a server that does not answer"
            assert watched.runner.error is not None
            assert watched.runner.error.reason in reasons, watched.runner.error

    async def check_back(self, watched: Watch) -> None:
        """The source, and its follower, are up again."""
        await watched.until(lambda page: page.value("taskq_source_up") == 1, "the source is up again")
        await watched.following()


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/dev/fd"))


def threads() -> int:
    """Threads without the pools of asyncio and of rendering, which grow up to their limit by themselves."""
    return sum(not thread.name.startswith(("asyncio_", "taskq-render_")) for thread in threading.enumerate())


async def settle(condition: Callable[[], bool]) -> None:
    """Give what is closing in the background up to SETTLE seconds."""
    until = time.monotonic() + SETTLE
    while not condition() and time.monotonic() < until:
        await asyncio.sleep(0.02)
