"""What a collect may cost: large tables without an index are not read, and counts stop at a limit."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import taskq_exporter_sql.guard
from taskq_exporter_postgres import binding
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.follow import step

from taskq_exporter.api import AdapterError, Reason, Snapshot, Source, State

Admin = psycopg.Connection[Any]


@pytest.fixture
def large(jobs: Admin, monkeypatch: pytest.MonkeyPatch) -> Admin:
    """A table of a hundred pages, where fifty are large."""
    monkeypatch.setattr(taskq_exporter_sql.guard, "LARGE_PAGES", 50)
    jobs.execute("ALTER TABLE jobs SET (fillfactor = 10)")
    jobs.execute(
        "INSERT INTO jobs (queue, state, finished_at) SELECT 'a', 'done', now() - interval '1 d'"
        " FROM generate_series(1, 2000)"
    )
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a'), ('b')")
    jobs.execute("ANALYZE jobs")
    return jobs


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


async def test_with_its_indexes_a_large_table_is_read(large: Admin, make_source: Any) -> None:
    snapshot = await collect_once(make_source())
    assert snapshot.problems == []
    assert [q.tasks[State.READY] for q in snapshot.queues] == [1, 1]


async def test_without_an_index_a_part_is_refused_until_it_is_there(large: Admin, make_source: Any) -> None:
    large.execute("DROP INDEX jobs_active")
    source = make_source()
    async with connect(source) as client:
        snapshot = await collect(source, client)
        ((problem),) = snapshot.problems
        assert (problem.reason, problem.part) == (Reason.COST, "jobs.active")
        assert 'would read all of "public"."jobs" (' in problem.message
        assert [dict(q.tasks) for q in snapshot.queues] == [
            {State.READY: 1, State.SCHEDULED: 0, State.RETRY: 0} for _ in "ab"
        ]
        large.execute(problem.message.split("create the index: ")[1].split(" (or set")[0])
        snapshot = await collect(source, client)
        assert snapshot.problems == [], "it comes back by itself"
        assert [q.tasks[State.RUNNING] for q in snapshot.queues] == [0, 0]


async def test_where_nothing_may_be_counted_the_source_says_so(large: Admin, make_source: Any) -> None:
    large.execute("DROP INDEX jobs_active, jobs_queued")
    with pytest.raises(AdapterError, match="CREATE INDEX CONCURRENTLY") as failed:
        await collect_once(make_source())
    assert failed.value.reason is Reason.COST
    snapshot = await collect_once(make_source(allow_seq_scan=True))
    assert [q.tasks[State.READY] for q in snapshot.queues] == [1, 1]


async def test_the_follower_is_refused_too(large: Admin, make_source: Any, make_ledger: Any) -> None:
    large.execute("DROP INDEX jobs_finished")
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        with pytest.raises(AdapterError, match=r'ON "public"."jobs" \("finished_at"\)') as failed:
            await step(source, client, ledger)
        assert (failed.value.reason, ledger.followed) == (Reason.COST, 0)
        large.execute("CREATE INDEX ON jobs (finished_at) WHERE finished_at IS NOT NULL")
        await step(source, client, ledger)
    assert ledger.followed == 1


async def test_plans_are_looked_at_again_in_time(
    large: Admin, make_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source()
    async with connect(source) as client:
        await collect(source, client)
        large.execute("DROP INDEX jobs_active")
        assert (await collect(source, client)).problems == []
        monkeypatch.setattr(binding, "LOOK_AGAIN", 0.0)
        assert [p.reason for p in (await collect(source, client)).problems] == [Reason.COST]


async def test_a_whole_index_is_a_full_read_too(large: Admin, make_source: Any) -> None:
    """Where sequential scans are off, an index that finds nothing may stand in for one."""
    large.execute("CREATE INDEX ON jobs (queue); CREATE INDEX ON jobs (kind, priority)")
    for query, problems in (
        ("SELECT queue, count(*) AS n FROM public.jobs GROUP BY queue", 1),
        ("SELECT 'a' AS queue, count(*) AS n FROM (SELECT FROM public.jobs ORDER BY queue LIMIT 10) AS j", 0),
        ("SELECT queue, count(*) AS n FROM public.jobs WHERE queue = 'b' GROUP BY queue", 0),
        ("SELECT queue, count(*) AS n FROM public.jobs WHERE state = 'queued' GROUP BY queue", 0),
        ("SELECT count(*) AS n FROM public.jobs WHERE queue IS NOT NULL AND locked_by = 'queue'", 1),
        ("SELECT count(*) AS n FROM public.jobs WHERE priority = 3", 1),  # the second column of an index
    ):
        snapshot = await collect_once(make_source(sql={"jobs": {"failed": query}}))
        assert [p.reason for p in snapshot.problems] == [Reason.COST] * problems, query


async def test_what_waits_is_found_by_its_index_however_much_waits(large: Admin, make_source: Any) -> None:
    """A scan in the order of the disk would read the history first."""
    large.execute("INSERT INTO jobs (queue, run_at) SELECT 'a', now() FROM generate_series(1, 4000)")
    large.execute("VACUUM ANALYZE jobs")
    source = make_source(max_count=100)
    assert (await collect_once(source)).problems == []
    large.execute("DROP INDEX jobs_queued")
    assert [p.part for p in (await collect_once(source)).problems] == ["jobs.waiting"]


async def test_counts_stop_at_the_limit_and_say_so(jobs: Admin, make_source: Any) -> None:
    """A backlog hides no other queue: what is counted is shared among them."""
    jobs.execute(
        "INSERT INTO jobs (queue, created_at, run_at) SELECT 'a', '2000-01-01', now() - n * interval '1 s'"
        " FROM generate_series(1, 500) AS n"
    )
    jobs.execute("INSERT INTO jobs (queue) VALUES ('b'), ('b'), (NULL)")
    jobs.execute("INSERT INTO jobs (queue, state, started_at) VALUES ('c', 'active', now())")
    jobs.execute("VACUUM ANALYZE jobs")
    names = ("a", "b", "c", "jobs")
    counted = {q.name: q for q in (await collect_once(make_source(max_count=503))).queues}
    assert [counted[name].tasks[State.READY] for name in names] == [500, 2, 0, 1]
    assert all(q.capped == {} for q in counted.values())
    source = make_source(max_count=99)
    async with connect(source) as client:
        for _ in range(2):
            snapshot = await collect(source, client)
            capped = {q.name: q for q in snapshot.queues}
            assert [capped[name].tasks[State.READY] for name in names] == [50, 2, 0, 1]
            assert capped["a"].oldest_age[State.READY] == pytest.approx(500, abs=20), "by the order of the index"
            assert capped["c"].tasks[State.RUNNING] == 1
            assert not snapshot.queues_complete, "a queue that was not reached is not known to be empty"
            for queue in capped.values():
                assert {State.READY, State.SCHEDULED} <= set(queue.capped)
                assert State.RUNNING not in queue.capped
    assert snapshot.commands == 5, "it is known to be full: nothing is asked for twice"


async def test_without_an_index_by_queue_a_cap_costs_no_more(jobs: Admin, make_source: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue) SELECT 'q' || n % 2 FROM generate_series(1, 50) n; DROP INDEX jobs_queued")
    snapshot = await collect_once(make_source(max_count=20))
    assert sum(q.tasks[State.READY] for q in snapshot.queues) == 21
    assert all(q.capped[State.READY] for q in snapshot.queues)
