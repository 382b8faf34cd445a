"""A server that hangs costs the page its own half, and no more than the deadline."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest
from taskflow_project import TABLES, TaskFlow

from taskq_exporter.testing import Server
from taskq_exporter.testing.watch import watch

TIMEOUT = 2.0


@pytest.mark.parametrize("half", ["database", "redis"])
async def test_one_half_hangs(half: str, postgres_own: Server, redis_own: Server) -> None:
    with psycopg.connect(postgres_own.url, autocommit=True) as connection:
        connection.execute(TABLES)
    with TaskFlow(postgres_own.url, redis_own.url) as flow:
        flow.create("mail", 9)
        flow.row("slow", 1, status="RUNNING")
    source = {"adapter": "taskflow", "url": postgres_own.url, "redis_url": redis_own.url, "timeout": TIMEOUT}
    frozen = postgres_own if half == "database" else redis_own
    async with watch(source) as watched:
        page = await watched.page()
        assert page.value("taskq_source_problems") == 0
        frozen.freeze()
        try:
            for _ in range(2):
                begun = time.perf_counter()
                page = await watched.page()
                assert time.perf_counter() - begun < TIMEOUT + 1
                assert page.value("taskq_source_up") == 1
                assert page.value("taskq_source_problems") == 1
                assert [text.split(":")[0] for text in watched.runner.complaints()] == [f"cannot read {half}"]
                ready = page.by("taskq_tasks", "queue", state="ready")
                running = page.by("taskq_tasks", "queue", state="running")
                assert (ready.get(("high",)), running.get(("low",))) == ((1, None) if half == "database" else (None, 1))
        finally:
            await asyncio.to_thread(frozen.thaw)
        page = await watched.until(lambda p: p.value("taskq_source_problems") == 0, "both can be read again")
        assert page.total("taskq_tasks") == 2
