"""The adapter contract in executable form: a class of tests that an author subclasses with a fixture `world`.

docs/adapters.md shows it in use. The tests are plain functions, so that they need no plugin of pytest. The fixture may
have class scope: the checks that change the world come last.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from importlib.metadata import entry_points
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from taskq_exporter.api import Finding, Reason, State
from taskq_exporter.config.sources import make_source
from taskq_exporter.runtime.snapshots import undeclared
from taskq_exporter.schema import FAMILIES
from taskq_exporter.testing.checks import SLACK, Checks, open_files, scenario, settle, threads
from taskq_exporter.testing.golden import check_golden
from taskq_exporter.testing.page import check_openmetrics, check_text
from taskq_exporter.testing.processes import free_port
from taskq_exporter.testing.stores import with_credentials
from taskq_exporter.testing.world import World

__all__ = ["AdapterConformance"]


class AdapterConformance(Checks):
    """What every adapter must do. A subclass names its `adapter` and has a fixture `world` that yields a World."""

    # --- the package

    def test_entry_point(self) -> None:
        """The adapter is installed under its name and keeps to the hooks."""
        assert len(entry_points(group="taskq_exporter.adapters", name=self.adapter)) == 1
        assert self.loaded.distribution, "the entry point belongs to no distribution"

    def test_unknown_option(self) -> None:
        """A mistyped option is an error at start, not a silence."""
        with pytest.raises(ValidationError, match="no_such_option"):
            self.loaded.options.model_validate({"no_such_option": 1})

    # --- what it says

    @scenario
    async def test_counts(self, world: World) -> None:
        """The seeded tasks come back exactly, each in one state, and nothing else."""
        async with self.watch(world) as watched:
            page = await watched.page()
            self.check_up(watched, page)
            self.check_counts(world, page)

    @scenario
    async def test_capabilities(self, world: World) -> None:
        """What it reports is declared, what it declares is reported, and the rest is absent."""
        async with self.watch(world) as watched:
            page = await watched.page()
            snapshot = await self.collect(watched)
        assert not undeclared(snapshot), "reported, but not declared as a Capability"
        known = {*FAMILIES, *self.loaded.families}
        for capability in snapshot.capabilities:
            assert capability.family in known, f"{capability.family} is no family of the schema or of families()"
            assert not capability.state or capability.state in list(State), capability
            labels = {"state": capability.state} if capability.state else {}
            if not capability.able:
                assert not page.values(capability.family, **labels), f"not able, but on the page: {capability}"
                advised = capability.advice or capability.reason in ("permission", "backend")
                assert advised, f"the advice is missing, what to change: {capability}"
            elif capability.family in ("taskq_tasks", "taskq_oldest_task_age_seconds") and world.tasks:
                assert page.values(capability.family, **labels), f"declared, but not on the page: {capability}"

    @scenario
    async def test_records(self, world: World) -> None:
        """Each queue, worker and scheduler has one record."""
        async with self.watch(world) as watched:
            snapshot = await self.collect(watched)
        for records in (snapshot.queues, snapshot.workers, snapshot.schedulers):
            twice = [name for name, n in Counter(record.name for record in records).items() if n > 1]
            assert not twice, f"several records of {twice}"

    @scenario
    async def test_page(self, world: World) -> None:
        """Promtool and the OpenMetrics parser take the page; no series stands there twice."""
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            page = await watched.page()
            self.check_up(watched, page)
            check_text(page.text)
            if self.golden is not None:
                check_golden(page.text, self.golden)
            check_openmetrics(await watched.openmetrics())

    @scenario
    async def test_diagnose(self, world: World) -> None:
        """What it says to people says something, and no secret."""
        adapter = self.loaded
        if not adapter.has("diagnose"):
            pytest.skip("the adapter has no diagnose()")
        async with self.watch(world) as watched:
            source = make_source(watched.runner.configured)
            async with adapter.connect(source) as client:
                findings = await adapter.diagnose(source, client)
        password = urlsplit(world.url).password
        for finding in findings:
            assert isinstance(finding, Finding)
            assert finding.text
            assert not password or password not in finding.text + finding.advice

    # --- how it behaves

    @scenario
    async def test_concurrent_collects(self, world: World) -> None:
        """Several exporters at once see the same."""

        async def one() -> None:
            async with self.watch(world) as watched:
                for _ in range(3):
                    self.check_counts(world, await watched.page())

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(one())

    @scenario
    async def test_no_growth(self, world: World) -> None:
        """Scrapes open no further sockets, files or threads, and closing leaves none."""
        at_first = open_files()
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            for _ in range(5):
                await watched.page()
            files, running = open_files(), threads()
            for _ in range(30):
                await watched.page()
            await settle(lambda: open_files() <= files and threads() <= running)
            assert open_files() <= files, "sockets or files grow with each collect"
            assert threads() <= running, "threads grow with each collect"
        await settle(lambda: open_files() <= at_first)
        assert open_files() <= at_first, "connect() leaves something open"

    @scenario
    async def test_deadline_already_past(self, world: World) -> None:
        """A scraper without patience gets its page at once, and the next one a whole one."""
        async with self.watch(world) as watched:
            begun = time.perf_counter()
            page = await watched.page(seconds=0)
            assert time.perf_counter() - begun < SLACK
            assert page.value("taskq_source_up") == 0
            self.check_counts(world, await watched.page())

    @scenario
    async def test_cancellation(self, world: World) -> None:
        """A collect that is cancelled at any point ends at once and leaves nothing open."""
        at_first, tasks = open_files(), len(asyncio.all_tasks())
        for steps in (1, 2, 3, 5, 8, 13, 21, 34, 55):
            async with self.watch(world) as watched:
                page = asyncio.create_task(watched.page())
                for _ in range(steps):
                    await asyncio.sleep(0)
                begun = time.perf_counter()
            assert time.perf_counter() - begun < SLACK, "a cancelled collect goes on"
            await page
        await settle(lambda: open_files() <= at_first)
        assert open_files() <= at_first, "a cancelled collect leaves something open"
        assert len(asyncio.all_tasks()) <= tasks, "a cancelled collect leaves tasks"

    @scenario
    async def test_no_secret(self, world: World) -> None:
        """No password reaches an error or a page: wrong credentials, nobody there, a URL that is none."""
        if not urlsplit(world.url).hostname:
            pytest.skip("the URL names no host")
        secret = "hunter2-of-the-kit"  # noqa: S105
        for port in (None, free_port(), "not-a-port"):
            url = with_credentials(world.url, "taskq_nobody", secret, port=port)
            async with self.watch(world, url=url) as watched:
                page = await watched.page()
                error = watched.runner.error
                assert error is not None, "a source with wrong credentials cannot be up"
                assert error.reason is not Reason.BUG, f"raise AdapterError with a reason instead of {error}"
                assert page.value("taskq_source_up") == 0
                for text in (str(error), repr(error), page.text, repr(watched.runner.source)):
                    assert secret not in text

    @scenario
    async def test_read_only(self, world: World) -> None:
        """Scrapes and the follower change nothing that is stored."""
        store = world.store
        if world.dump is None and store is None:
            pytest.fail("give World a dump= that returns everything stored")
        dump = world.dump or functools.partial(store.dump, world.url) if store else world.dump
        assert dump is not None
        before = await asyncio.to_thread(dump)
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            for _ in range(self.scrapes):
                page = await watched.page()
            self.check_up(watched, page)
        assert await asyncio.to_thread(dump) == before

    @scenario
    async def test_grants(self, world: World) -> None:
        """A user with exactly the rights that grants() prints sees all that the owner sees."""
        async with self.watch(world, follow=True) as watched:
            text = self.loaded.grants(make_source(watched.runner.configured))
            if text is None:
                pytest.skip("the adapter has no grants()")
            await watched.following()
            owner = await watched.page()
        store = world.store
        if world.grant is not None:
            url = world.grant(text)
        elif store is not None:
            url = await asyncio.to_thread(store.grant, world.url, text)
        else:
            pytest.fail("give World a grant= that creates the user and returns its URL")
        async with self.watch(world, url=url, follow=True) as watched:
            await watched.following()
            page = await watched.page()
            self.check_up(watched, page)
            self.check_counts(world, page)
        assert {name for name, _ in page.series()} == {name for name, _ in owner.series()}
        able = page.values("taskq_source_capability")
        assert able == owner.values("taskq_source_capability"), "with these rights it can do less than it could"

    # --- what changes the world

    @scenario
    async def test_work(self, world: World) -> None:
        """Finished work is counted to the unit; what was started either ran or runs."""
        if not self.loaded.has("follow"):
            pytest.skip("the adapter has no follower")
        if world.work is None or not world.finished:
            pytest.fail("the adapter has a follower: give World work= and finished=")
        counted = "taskq_tasks_finished_total"
        keys = ("queue", "task", "outcome")
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            await asyncio.to_thread(world.work)
            all_of_it = sum(world.finished.values())
            await watched.until(lambda p: p.total(counted) >= all_of_it, f"{counted} reaches {all_of_it}")
            for _ in range(5):  # what is counted twice would come now
                await asyncio.sleep(0.1)
                page = await watched.page()
        assert {k: n for k, n in page.by(counted, *keys).items() if n} == dict(world.finished)
        started = page.by("taskq_tasks_started_total", "queue")
        if started:
            ran = page.by("taskq_task_run_duration_seconds_count", "queue")
            running = page.by("taskq_tasks", "queue", state="running")
            assert started == {queue: ran.get(queue, 0) + running.get(queue, 0) for queue in started}

    @scenario
    async def test_frozen_server(self, world: World) -> None:
        """A server that hangs costs a page its deadline at most; it comes back by itself."""
        server = self.server(world)
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            self.check_up(watched, await watched.page())
            server.freeze()
            try:
                await self.check_down(watched, {Reason.TIMEOUT})
            finally:
                server.thaw()
            await self.check_back(watched)

    @scenario
    async def test_stopped_server(self, world: World) -> None:
        """A server that is gone is a page with up 0; it comes back by itself."""
        server = self.server(world)
        async with self.watch(world, follow=True) as watched:
            await watched.following()
            self.check_up(watched, await watched.page())
            server.stop()
            try:
                await self.check_down(watched, {Reason.CONNECT})
            finally:
                await asyncio.to_thread(server.start)
            await self.check_back(watched)
