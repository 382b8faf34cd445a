"""Finished totals on the page are exact, whatever twenty writers do at once, and whenever the exporter starts anew."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taskq_exporter.testing import Server, start_postgres, watch

pytestmark = pytest.mark.newest

WRITERS = 20
SECONDS = 6.0
FINISHED = "taskq_tasks_finished_total"
TAKE = """
UPDATE jobs SET state = 'active', started_at = clock_timestamp() WHERE id = (
    SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id
"""
#: By a clock of the writer's own.
END = "UPDATE jobs SET state = %s, finished_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s"


@pytest.fixture
def server() -> Iterator[Server]:
    with start_postgres("-c", f"max_prepared_transactions={WRITERS}") as server:
        yield server


def write(url: str, until: float, seed: int) -> None:
    """Work in transactions of up to two seconds: some are rolled back, in part or as a whole; some are prepared."""
    chance = random.Random(seed)
    skew = chance.uniform(-60, 60)
    with psycopg.connect(url) as connection:
        while time.monotonic() < until:
            for _ in range(chance.randint(1, 4)):
                (job,) = connection.execute(TAKE).fetchone() or (None,)
                if chance.random() < 0.3:  # an attempt to end it that fails, and is undone
                    with connection.transaction(force_rollback=True):
                        connection.execute(END, ["error", skew, job])
                with connection.transaction():
                    connection.execute(END, [chance.choice(("done", "error")), skew, job])
            prepared = chance.random() < 0.2
            if prepared:
                name = f"writer {seed}"
                connection.execute(f"PREPARE TRANSACTION '{name}'")
                connection.commit()
            time.sleep(chance.choice((0, 0.01, chance.uniform(0, 0.5), chance.uniform(0, 2))))
            end = "ROLLBACK" if chance.random() < 0.1 else "COMMIT"
            if prepared:
                connection.autocommit = True
                connection.execute(f"{end} PREPARED '{name}'")
                connection.autocommit = False
            else:
                connection.execute(end)


async def test_twenty_writers_and_an_exporter_that_starts_anew(
    server: Server, table: dict[str, Any], jobs_ddl: str, tmp_path: Path
) -> None:
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(jobs_ddl.encode())
        admin.execute(
            "INSERT INTO jobs (queue, kind) SELECT 'q' || n % 3, 'k' || n % 2 FROM generate_series(1, 9000) n"
        )
    described = {"adapter": "postgres", "url": server.url, "table": table, "poll_interval": "100ms"}
    async with watch(described, follow=True, state_dir=tmp_path) as watched:
        await watched.following()
    until = time.monotonic() + SECONDS
    writers = [threading.Thread(target=write, args=(server.url, until, n), daemon=True) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    starts = 0
    while any(writer.is_alive() for writer in writers):
        async with watch(described, follow=True, state_dir=tmp_path) as watched:
            await watched.following()
            await asyncio.sleep(random.uniform(0.2, 1))
        starts += 1
    with psycopg.connect(server.url) as connection:
        truth = connection.execute(
            "SELECT queue, kind, CASE state WHEN 'done' THEN 'succeeded' ELSE 'failed' END, count(*) FROM jobs"
            " WHERE finished_at IS NOT NULL GROUP BY 1, 2, 3"
        ).fetchall()
    exact = {(queue, kind, outcome): n for queue, kind, outcome, n in truth}
    async with watch(described, follow=True, state_dir=tmp_path) as watched:
        page = await watched.until(lambda page: page.total(FINISHED) >= sum(exact.values()), "all are counted")
        for _ in range(5):  # what is counted twice would come now
            await asyncio.sleep(0.1)
            page = await watched.page()
    assert {key: n for key, n in page.by(FINISHED, "queue", "task", "outcome").items() if n} == exact
    assert len(exact) == 12
    assert sum(exact.values()) > 300
    assert starts >= 3
