"""Behind PgBouncer in transaction mode: each transaction may be another server connection's, shared with others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.follow import step
from taskq_exporter_sql import read_only

from taskq_exporter.api import AdapterError, Reason, Source, State
from taskq_exporter.testing import start_pgbouncer
from taskq_exporter.testing.stores import with_credentials

Admin = psycopg.Connection[Any]
#: What a transaction of ours sets, which nobody else may find.
SETTINGS = ("search_path", "TimeZone", "statement_timeout", "enable_seqscan", "transaction_isolation", "jit")


@pytest.fixture
def pooled(jobs: Admin, make_source: Any, postgres_dsn: str, workers: dict[str, Any]) -> Iterator[Source]:
    """A source through the pooler, as the role that `grants` prints."""
    source: Source = make_source(workers=workers)
    user = psycopg.conninfo.conninfo_to_dict(source.url())
    url = with_credentials(postgres_dsn, str(user["user"]), str(user["password"]))
    with start_pgbouncer(url) as pooler:
        yield replace(source, url=lambda: pooler.url)


def finish(dsn: str, count: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(count):
            connection.execute(
                "UPDATE jobs SET state = 'done', started_at = now(), finished_at = clock_timestamp() WHERE id ="
                " (SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
            )


async def test_counts_and_counters_are_exact(pooled: Source, jobs: Admin, make_ledger: Any, postgres_dsn: str) -> None:
    jobs.execute("INSERT INTO jobs (queue) SELECT 'q' || n % 3 FROM generate_series(1, 1000) AS n")
    jobs.execute("INSERT INTO workers VALUES ('w1', now(), 4)")
    ledger, totals, finishing = make_ledger(), 0, True
    async with connect(pooled) as client:
        await step(pooled, client, ledger)
    threads = [threading.Thread(target=finish, args=(postgres_dsn, 150), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    async with connect(pooled) as one, connect(pooled) as other:
        while finishing:
            finishing = any(thread.is_alive() for thread in threads)
            ledger = make_ledger(json.loads(json.dumps(ledger.cursor)))  # a new process, from the checkpoint
            async with connect(pooled) as follower:
                answers = await asyncio.gather(
                    collect(pooled, one), collect(pooled, other), step(pooled, follower, ledger)
                )
            assert [snapshot.problems for snapshot in answers[:2]] == [[], []]
            totals += sum(ledger.totals.values())
        async with asyncio.timeout(30), connect(pooled) as follower:
            while totals < 600:  # others on the server, as an autoanalyze, may hold the last look back
                ledger = make_ledger(ledger.cursor)
                await step(pooled, follower, ledger)
                totals += sum(ledger.totals.values())
        ledger = make_ledger(ledger.cursor)
        await step(pooled, one, ledger)
        snapshot = await collect(pooled, other)
    assert (totals, ledger.totals) == (600, {})
    assert sum(queue.tasks[State.READY] for queue in snapshot.queues) == 400
    assert [(worker.name, worker.up) for worker in snapshot.workers] == [("w1", True)]


async def test_nothing_is_left_to_who_comes_next(pooled: Source, jobs: Admin, make_ledger: Any) -> None:
    def settings() -> list[Any]:
        with psycopg.connect(pooled.url(), autocommit=True, prepare_threshold=None) as client:
            return [client.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS]

    before = settings()
    async with connect(pooled) as client:
        for _ in range(8):  # more than psycopg asks before it prepares a statement
            assert (await collect(pooled, client)).problems == []
            await step(pooled, client, make_ledger())
        jobs.execute("ALTER TABLE jobs RENAME TO gone")
        with pytest.raises(AdapterError):
            await collect(pooled, client)
    assert settings() == before


async def test_plans_are_kept_only_without_a_pooler(
    pooled: Source, jobs: Admin, make_source: Any, make_ledger: Any, workers: dict[str, Any]
) -> None:
    """A prepared statement is one of the server's process, and a pooler gives the next transaction to another."""
    direct: Source = make_source(workers=workers)
    kept = []
    for source in (pooled, direct):
        async with connect(source) as client:
            for _ in range(3):
                await collect(source, client)
                client.memory.clear()  # the follower binds other statements
                await step(source, client, make_ledger())
                client.memory.clear()
            async with read_only(client, timeout=5) as transaction:
                kept.append(await transaction.fetch("kept", sql.SQL("SELECT statement FROM pg_prepared_statements")))
    assert kept[0] == []
    assert len({text for (text,) in kept[1]}) == len(kept[1]) == 5  # catalogs, waiting, active, workers, horizon


async def test_a_parameter_that_the_pooler_refuses_is_named(pooled: Source) -> None:
    source = replace(pooled, url=lambda: f"{pooled.url()}?options=-c%20jit%3Doff")
    with pytest.raises(AdapterError, match="leave options= out of the URL") as failed:
        async with connect(source):
            pass
    assert failed.value.reason is Reason.CONNECT
