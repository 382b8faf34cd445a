"""The forms of what waits say the same, the cheapest is sent, and what a collect costs is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.bind_table import LIVE_ROLES, bind_jobs
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.statements import active_jobs
from taskq_exporter_postgres.waiting import can_be_stepped, spread_jobs, stepped_jobs, waiting_jobs
from taskq_exporter_sql import describe, read_only

from taskq_exporter.api import State

Admin = psycopg.Connection[Any]


async def test_every_form_says_the_same(jobs: Admin, make_source: Any, table: Any, fill: str) -> None:
    """The planner chooses among them, so that none may be a little different."""
    table["states"] |= {"scheduled": ["done"], "retry": ["error"]}
    del table["states"]["succeeded"], table["states"]["failed"]
    jobs.execute(fill)
    jobs.execute(
        "UPDATE jobs SET created_at = '-infinity' WHERE id = 15;"
        "UPDATE jobs SET created_at = '-infinity', run_at = '-infinity' WHERE id IN (30, 60);"
        "UPDATE jobs SET created_at = now() + interval '1 min', run_at = '2000-01-01' WHERE id IN (120, 21);"
        "ALTER TABLE jobs ALTER queue SET NOT NULL"
    )
    source = make_source(table)
    options: PostgresOptions = source.options
    async with connect(source) as client, read_only(client, timeout=5) as transaction:
        bound = bind_jobs(options, await describe(transaction, [options.table.table_name]), LIVE_ROLES)
        assert can_be_stepped(bound, options.table)
        forms = [
            waiting_jobs(bound, options.table, limit=2000),
            waiting_jobs(bound, options.table, limit=2000, ordered=True),
            stepped_jobs(bound, options.table, limit=2000),
            spread_jobs(bound, options.table, limit=2000),
        ]
        first, *others = [sorted(await transaction.fetch("waiting", form), key=str) for form in forms]
    assert len(first) == 96  # three words, three queues, four levels, their states
    assert max(age for *_, age, _ in first if age is not None) > 990
    assert others == [first] * 3


async def test_the_cheapest_form_is_sent(jobs: Admin, make_source: Any) -> None:
    """By the order of an index where there is one, and only for what it tells."""
    jobs.execute(
        "INSERT INTO jobs (queue, priority, created_at, run_at) SELECT 'q' || n % 4, n % 3, now(), now()"
        " FROM generate_series(1, 20000) n; CREATE INDEX ON jobs (queue, priority) WHERE state = 'queued'"
    )

    async def form() -> str:
        jobs.execute("VACUUM ANALYZE jobs")
        source = make_source()
        async with connect(source) as client:
            assert sum(q.tasks[State.READY] for q in (await collect(source, client)).queues) == 20000
            (waiting,) = [one for one in client.memory["binding"].statements if one.name == "waiting"]
        text = waiting.query(Blanks(schema="public", limit=1)).as_string(None)
        return "stepped" if "RECURSIVE" in text else "ordered" if "ORDER BY" in text else "as it comes"

    assert await form() == "as it comes", "visits to the table in the order of an index cost more than they save"
    jobs.execute("CREATE INDEX ON jobs (queue, priority, run_at) INCLUDE (created_at, attempts) WHERE state = 'queued'")
    assert await form() == "ordered", "a queue that may be NULL is not found again by its name"
    jobs.execute("ALTER TABLE jobs ALTER queue SET NOT NULL")
    assert await form() == "stepped"
    jobs.execute("UPDATE jobs SET priority = id % 300")
    assert await form() == "ordered", "more groups than are looked for one by one"
    jobs.execute("UPDATE jobs SET priority = 1; DROP INDEX jobs_queue_priority_run_at_created_at_attempts_idx")
    jobs.execute("DROP INDEX jobs_queue_priority_idx; CREATE INDEX ON jobs (queue, priority, run_at)")
    assert await form() != "stepped", "through an index of all jobs, those that are over are read, too"


@pytest.mark.parametrize(("count", "unlimited"), [(2500, True), (6000, False)])
async def test_a_small_index_is_read_without_a_limit(
    jobs: Admin, make_source: Any, count: int, unlimited: bool
) -> None:
    """What is told is the same: no more than the limit."""
    jobs.execute(
        "ALTER TABLE jobs ALTER queue SET NOT NULL; CREATE INDEX by_time ON jobs (queue, priority, run_at)"
        " INCLUDE (created_at, attempts) WHERE state = 'queued'; DROP INDEX jobs_queued"
    )
    jobs.execute(f"INSERT INTO jobs (queue, run_at) SELECT 'q' || n % 2, now() FROM generate_series(1, {count}) AS n")
    jobs.execute("VACUUM ANALYZE jobs")
    source = make_source(max_count=2000)
    async with connect(source) as client:
        snapshot = await collect(source, client)
        (waiting,) = [one for one in client.memory["binding"].statements if one.name == "waiting"]
    assert [(q.tasks[State.READY], q.capped[State.READY]) for q in snapshot.queues] == [(1000, True)] * 2
    sent = waiting.query(Blanks(schema="public", limit=1)).as_bytes(jobs)
    ((plan,),) = jobs.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + sent).fetchall()
    idle = {node["Node Type"] for node in _nodes(plan[0]["Plan"]) if node["Actual Loops"] == 0}
    assert "Aggregate" in idle, "one of the two counts"
    assert ("Limit" in idle) is unlimited


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


async def test_statements_use_the_partial_indexes(jobs: Admin, make_source: Any, fill: str) -> None:
    """Cost follows the live jobs, not the history."""
    jobs.execute("INSERT INTO jobs (state, finished_at) SELECT 'done', now() FROM generate_series(1, 20000)")
    jobs.execute(fill)
    jobs.execute("VACUUM ANALYZE jobs")
    source = make_source()
    options: PostgresOptions = source.options
    async with connect(source) as client, read_only(client, timeout=5) as transaction:
        bound = bind_jobs(options, await describe(transaction, [options.table.table_name]), LIVE_ROLES)
    for statement in (waiting_jobs(bound, options.table, limit=100_001), active_jobs(bound, options.table)):
        plan = "\n".join(row[0] for row in jobs.execute(b"EXPLAIN " + statement.as_bytes(jobs)))
        assert "Seq Scan" not in plan
        assert "jobs_queued" in plan or "jobs_active" in plan


async def test_what_a_collect_costs_is_told(jobs: Admin, make_source: Any) -> None:
    source = make_source()
    async with connect(source) as client:
        snapshot = await collect(source, client)
        assert set(snapshot.query_seconds) == {"waiting", "active"}
        assert snapshot.commands > 5, "the plans are looked at first"
        snapshot = await collect(source, client)
    assert snapshot.commands == 5  # BEGIN, catalogs, waiting, active, COMMIT
    assert snapshot.broker is not None
    assert 0 < (snapshot.broker.roundtrip_seconds or 0) < 1
