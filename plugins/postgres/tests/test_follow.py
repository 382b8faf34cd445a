"""Finished jobs are counted once each, whatever their writers do; the truth is a plain count of the rows."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres import windows
from taskq_exporter_postgres.adapter import connect, follow
from taskq_exporter_postgres.follow import step
from taskq_exporter_sql import totals

from taskq_exporter.api import AdapterError, Reason, Source

Admin = psycopg.Connection[Any]
DONE = "INSERT INTO jobs (queue, kind, state, started_at, finished_at) VALUES ('a', 'mail', 'done', now(), now())"


@contextmanager
def session(dsn: str) -> Iterator[Admin]:
    """Another connection of the application, in a transaction of its own."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_current_xact_id()")  # a transaction id now, as a first write would take
        yield connection


async def test_history_is_not_counted_and_what_follows_is(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    for _ in range(3):
        jobs.execute(DONE)
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        assert ledger.totals == {}
        jobs.execute(DONE)
        jobs.execute(DONE.replace("done", "error"))
        jobs.execute("INSERT INTO jobs (queue, state) VALUES ('a', 'queued')")
        for _ in range(3):
            await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 1, ("a", "mail", "failed"): 1}
    assert (ledger.read, ledger.lag, ledger.followed) == (2, 0.0, 4)
    assert ledger.sent == client.commands_sent


async def test_buckets_hold_their_upper_bound(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    """Prometheus' `le` is at most; a job of exactly half a second is in the bucket of 0.5."""
    source, ledger = make_source(), make_ledger()  # run .1 .5 1 60, wait .1 1 30
    async with connect(source) as client:
        await step(source, client, ledger)
        for run, wait in ((0.1, 0.1), (0.5, 1), (0.500001, 1.000001), (60, 30), (60.000001, 31), (0, 0), (-5, -5)):
            jobs.execute(
                "INSERT INTO jobs (queue, state, created_at, run_at, started_at, finished_at) SELECT 'a', 'done',"
                " now() - make_interval(secs => %(wait)s) - interval '9 s', now() - make_interval(secs => %(wait)s),"
                " now(), now() + make_interval(secs => %(run)s)",
                {"run": run, "wait": wait},
            )
        jobs.execute("INSERT INTO jobs (queue, state, finished_at) VALUES ('a', 'done', now())")  # never started
        await step(source, client, ledger)
    assert ledger.runs == {("a", "mail", "succeeded"): ([3, 1, 1, 1, 1], pytest.approx(121.100002))}
    assert ledger.waits == {("a", "mail"): ([3, 1, 2, 1], pytest.approx(63.100001))}
    assert ledger.totals == {("a", "mail", "succeeded"): 8}


async def test_a_late_commit_behind_a_long_transaction_counts(
    jobs: Admin, make_source: Any, make_ledger: Any, postgres_dsn: str
) -> None:
    """Both began before several looks, one holds the horizon, the other commits when the horizon has just moved."""
    source, ledger = make_source(finished={"overlap": "200ms"}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        with session(postgres_dsn) as first, session(postgres_dsn) as second:
            second.execute(DONE)
            for _ in range(80):  # more looks than the cursor keeps marks of
                jobs.execute(DONE)
                await step(source, client, ledger)
                await asyncio.sleep(0.01)
            assert ledger.totals == {}
            assert ledger.lag > 0.8
            first.commit()
            await step(source, client, ledger)
            second.commit()
        await step(source, client, ledger)
        assert ledger.totals == {("a", "mail", "succeeded"): 81}
        assert ledger.lag == 0
        assert len(ledger.cursor["marks"]) == 1


def write_for(dsn: str, seconds: float, style: str, seed: int) -> None:
    """Finish jobs in transactions of up to two seconds, some of which are rolled back."""
    chance = random.Random(seed)
    when = {
        "now": "now()",
        "clock": "clock_timestamp()",
        "skewed": f"clock_timestamp() + interval '{chance.uniform(-0.5, 0.5)} s'",
        "savepoint": "clock_timestamp()",
    }[style]
    insert = f"INSERT INTO jobs (queue, kind, state, started_at, finished_at) VALUES ('a', %s, 'done', {when}, {when})"
    ends = time.monotonic() + seconds
    with psycopg.connect(dsn) as connection:
        while time.monotonic() < ends:
            for _ in range(chance.randint(1, 4)):
                if style == "savepoint":
                    with connection.transaction():
                        connection.execute(insert, [style])
                else:
                    connection.execute(insert, [style])
            time.sleep(chance.choice((0, 0, 0.01, chance.uniform(0, 0.5), chance.uniform(0, 2))))
            connection.rollback() if chance.random() < 0.1 else connection.commit()


async def test_exact_under_concurrent_writers_across_restarts(
    jobs: Admin, make_source: Any, make_ledger: Any, postgres_dsn: str
) -> None:
    """Twenty writers, four kinds of clock; the exporter starts anew from its last cursor every few looks."""
    source = make_source(finished={"overlap": "1s"})  # covers the clocks, not the transactions
    styles = ("now", "clock", "skewed", "savepoint")
    ledger = make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
    writers = [
        threading.Thread(target=write_for, args=(postgres_dsn, 8.0, styles[n % 4], n), daemon=True) for n in range(20)
    ]
    for writer in writers:
        writer.start()
    totals: dict[Any, int] = {}
    looks = 0
    while any(writer.is_alive() for writer in writers):
        ledger = make_ledger(json.loads(json.dumps(ledger.cursor)))  # a new process, from the checkpoint
        async with connect(source) as client:
            for _ in range(random.randint(1, 5)):
                await step(source, client, ledger)
                looks += 1
                await asyncio.sleep(0.1)
        totals = add(totals, ledger.totals)
    truth = jobs.execute("SELECT kind, count(*) FROM jobs GROUP BY 1").fetchall()
    ledger = make_ledger(ledger.cursor)
    missing = sum(n for _, n in truth) - sum(totals.values())
    async with connect(source) as client:
        for _ in range(100):  # others on the server, as an autoanalyze, may hold the last look back
            await step(source, client, ledger)
            if sum(ledger.totals.values()) >= missing:
                break
            await asyncio.sleep(0.1)
    totals = add(totals, ledger.totals)
    assert {kind: n for (_, kind, _), n in totals.items()} == dict(truth)
    assert len(truth) == 4
    assert looks > 40


def add(one: dict[Any, int], other: dict[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {*one, *other}}


WORKER = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as c:
    while True:
        job = c.execute(
            "UPDATE jobs SET state = 'active', started_at = clock_timestamp(), locked_by = %s WHERE id = (SELECT id"
            " FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id", [sys.argv[2]]
        ).fetchone()
        if job is None:
            break
        state = 'error' if job[0] % 10 == 0 else 'done'
        c.execute("UPDATE jobs SET state = %s, finished_at = clock_timestamp() WHERE id = %s", [state, job[0]])
"""


async def test_ten_thousand_jobs_and_four_workers(
    jobs: Admin, make_source: Any, make_ledger: Any, postgres_dsn: str
) -> None:
    jobs.execute("INSERT INTO jobs (queue, kind) SELECT 'q' || n % 3, 'k' || n % 5 FROM generate_series(1, 10000) AS n")
    source, ledger = make_source(poll_interval="100ms"), make_ledger()
    async with connect(source) as client:
        follower = asyncio.create_task(follow(source, client, ledger))
        while not ledger.followed:
            await asyncio.sleep(0.01)
        workers = [subprocess.Popen([sys.executable, "-c", WORKER, postgres_dsn, f"w{n}"]) for n in range(4)]
        try:
            while any(worker.poll() is None for worker in workers):
                await asyncio.sleep(0.1)
            assert [worker.returncode for worker in workers] == [0] * 4
            looked = ledger.followed
            while ledger.followed < looked + 2:
                await asyncio.sleep(0.05)
        finally:
            for worker in workers:
                worker.kill()
            follower.cancel()
            await asyncio.wait({follower})
    truth = jobs.execute(
        "SELECT queue, kind, CASE state WHEN 'done' THEN 'succeeded' ELSE 'failed' END, count(*)"
        " FROM jobs GROUP BY 1, 2, 3"
    ).fetchall()
    assert ledger.totals == {(queue, task, outcome): n for queue, task, outcome, n in truth}
    assert sum(ledger.totals.values()) == 10_000
    assert sum(sum(counts) for counts, _ in ledger.runs.values()) == 10_000
    assert sum(sum(counts) for counts, _ in ledger.waits.values()) == 10_000
    assert ledger.counted == {"succeeded", "failed"}
    assert ledger.followed > 10


async def test_a_failed_look_counts_nothing_and_the_next_one_all(
    jobs: Admin, make_source: Any, make_ledger: Any, postgres_dsn: str
) -> None:
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        jobs.execute(DONE)
        cursor = ledger.cursor
        with psycopg.connect(postgres_dsn) as migration:
            migration.execute("ALTER TABLE jobs ADD COLUMN extra text")
            with pytest.raises(AdapterError) as failed:
                await step(source, client, ledger)
            assert failed.value.reason is Reason.BUSY
            assert (ledger.totals, ledger.cursor) == ({}, cursor)
        await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 1}


async def test_a_job_that_ends_twice_counts_twice(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        jobs.execute(DONE)
        await step(source, client, ledger)
        jobs.execute("UPDATE jobs SET state = 'queued', finished_at = NULL")
        await step(source, client, ledger)
        jobs.execute("UPDATE jobs SET state = 'done', finished_at = clock_timestamp()")
        await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 2}


async def test_freezing_rows_counts_nothing_again(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        jobs.execute(DONE)
        await step(source, client, ledger)
        jobs.execute("VACUUM (FREEZE, FULL) jobs")
        jobs.execute("VACUUM FREEZE jobs")
        jobs.execute(DONE)
        await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 2}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hi": 2**62}, "behind the cursor"),
        ({"hi": 3, "database": "1"}, "made anew"),
        ({"marks": []}, "not a cursor"),
        ({"seen": {}}, ""),
    ],
)
async def test_a_cursor_of_another_server_is_set_aside(
    jobs: Admin, make_source: Any, make_ledger: Any, change: dict[str, Any], why: str
) -> None:
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        ledger.cursor = {**ledger.cursor, **change}
        jobs.execute(DONE)
        await step(source, client, ledger)
        assert ledger.totals == ({} if why else {("a", "mail", "succeeded"): 1})
        assert [why in said for said in ledger.started_over] == ([True] if why else [])
        jobs.execute(DONE)
        await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 1 if why else 2}


async def test_partitions(admin: Admin, make_source: Any, make_ledger: Any) -> None:
    admin.execute(
        "CREATE TABLE p (state text, ended timestamptz) PARTITION BY LIST (state);"
        "CREATE TABLE p_done PARTITION OF p FOR VALUES IN ('done'); CREATE TABLE p_rest PARTITION OF p DEFAULT"
    )
    table = {"name": "p", "columns": {"state": "state", "finished_at": "ended"}, "states": {"succeeded": "done"}}
    source, ledger = make_source(table), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        admin.execute("INSERT INTO p VALUES ('new', NULL)")
        admin.execute("UPDATE p SET state = 'done', ended = now()")  # moves the row
        await step(source, client, ledger)
    assert ledger.totals == {("p", "", "succeeded"): 1}


VIEW = {
    "name": "v",
    "columns": {"id": "id", "state": "state", "finished_at": "finished_at"},
    "states": {"succeeded": "done"},
}


async def test_a_view_is_refused_with_advice(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    jobs.execute("CREATE VIEW v AS SELECT * FROM jobs")
    source: Source = make_source(VIEW, grant=False)
    make_source(VIEW, finished={"mode": "ids"})  # grants without xmin, which a view has not
    async with connect(source) as client:
        with pytest.raises(AdapterError, match="mode: ids") as failed:
            await step(source, client, make_ledger())
    assert failed.value.reason is Reason.UNSUPPORTED


async def test_mode_ids_on_a_view(jobs: Admin, make_source: Any, make_ledger: Any, postgres_dsn: str) -> None:
    jobs.execute("CREATE VIEW v AS SELECT * FROM jobs")
    for _ in range(3):
        jobs.execute(DONE)
    source, ledger = make_source(VIEW, finished={"mode": "ids", "overlap": "5s"}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        with session(postgres_dsn) as other:
            other.execute(DONE)
            for _ in range(5):
                jobs.execute(DONE)
                await step(source, client, ledger)
            ledger.cursor = json.loads(json.dumps(ledger.cursor))
        await step(source, client, ledger)
        assert ledger.totals == {("v", "", "succeeded"): 6}
        jobs.execute("UPDATE jobs SET finished_at = clock_timestamp() WHERE id = 1")
        await step(source, client, ledger)
    assert ledger.totals == {("v", "", "succeeded"): 7}


async def test_mode_ids_where_two_rows_share_an_id(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    jobs.execute("CREATE TABLE old (LIKE jobs); CREATE VIEW v AS SELECT * FROM jobs UNION ALL SELECT * FROM old")
    source, ledger = make_source(VIEW, finished={"mode": "ids"}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        for name in ("jobs", "old"):
            jobs.execute(
                f"INSERT INTO {name} (id, queue, kind, state, priority, attempts, created_at, finished_at, payload)"
                " OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'mail', 'done', 0, 0, now(), clock_timestamp(), '')"
            )
        for _ in range(4):
            await step(source, client, ledger)
            ledger.cursor = json.loads(json.dumps(ledger.cursor))
    assert ledger.totals == {("v", "", "succeeded"): 2}


@pytest.mark.parametrize(
    ("queues", "tasks", "named"), [(2, 3, 6), (2, 6, 2), (20, 1, 1)], ids=["few", "many tasks", "many queues"]
)
async def test_too_many_names_are_counted_as_other(
    jobs: Admin,
    make_source: Any,
    make_ledger: Any,
    monkeypatch: pytest.MonkeyPatch,
    queues: int,
    tasks: int,
    named: int,
) -> None:
    for module in (windows, totals):
        monkeypatch.setattr(module, "MAX_GROUPS", 10)
    source, ledger = make_source(), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        jobs.execute(
            "INSERT INTO jobs (queue, kind, state, started_at, finished_at) SELECT 'q' || q, 't' || t, 'done', now(),"
            " now() FROM generate_series(1, %s) AS q, generate_series(1, %s) AS t",
            [queues, tasks],
        )
        await step(source, client, ledger)
    assert (len(ledger.totals), sum(ledger.totals.values())) == (named, queues * tasks)
    assert ("_other" in {task for _, task, _ in ledger.totals}) == (named < 6)
    assert ("_other" in {queue for queue, _, _ in ledger.totals}) == (named == 1)


async def test_names_of_finished_jobs_are_cut_and_ids_are_not(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    jobs.execute("CREATE TABLE long (id text, queue text, state text, finished_at timestamptz)")
    columns = {"id": "id", "queue": "queue", "state": "state", "finished_at": "finished_at"}
    source = make_source({"name": "long", "columns": columns, "states": {"failed": "x"}}, finished={"mode": "ids"})
    ledger = make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        jobs.execute(
            "INSERT INTO long SELECT repeat('i', 300) || n, repeat('q', 5000), 'x', now() FROM generate_series(1, 2) n"
        )
        await step(source, client, ledger)
    assert ledger.totals == {("q" * 256, "", "failed"): 2}


@pytest.mark.parametrize("history", [0, 5, 50])
async def test_mode_ids_with_more_jobs_than_it_remembers(
    jobs: Admin, make_source: Any, make_ledger: Any, monkeypatch: pytest.MonkeyPatch, history: int
) -> None:
    """A backlog, all of it ended at one moment: counted once, with a gap, and counting goes on."""
    monkeypatch.setattr(windows, "MAX_IDS", 20)
    jobs.execute("CREATE VIEW v AS SELECT * FROM jobs")
    many = DONE.replace("VALUES (", "SELECT ").removesuffix(")") + " FROM generate_series(1, %s)"
    jobs.execute(many, [history])
    source, ledger = make_source(VIEW, finished={"mode": "ids"}), make_ledger()
    async with connect(source) as client:
        for total, gaps in ((0, 0), (30, 1), (31, 1), (61, 2), (62, 2)):
            if total:
                jobs.execute(many, [30 if gaps > ledger.gaps else 1])
            for _ in range(2):
                await step(source, client, ledger)
                ledger.cursor = json.loads(json.dumps(ledger.cursor))
            assert sum(ledger.totals.values()) == total
            assert ledger.gaps == gaps
    assert ledger.started_over == []


@pytest.mark.parametrize(
    ("type_", "write", "options"),
    [
        ("timestamp", "clock_timestamp() AT TIME ZONE 'America/New_York'", {"naive_timezone": "America/New_York"}),
        ("bigint", "extract(epoch FROM clock_timestamp()) * 1000", {"epoch_unit": "ms"}),
        ("double precision", "extract(epoch FROM clock_timestamp())", {"epoch_unit": "s"}),
    ],
)
async def test_other_kinds_of_times(
    admin: Admin, make_source: Any, make_ledger: Any, type_: str, write: str, options: dict[str, str]
) -> None:
    admin.execute(f"CREATE TABLE t (state text, began {type_}, ended {type_}); CREATE INDEX ended ON t (ended)")
    columns = {"state": "state", "started_at": "began", "finished_at": "ended"}
    table = {"name": "t", "columns": columns, "states": {"succeeded": "done"}, **options}
    source, ledger = make_source(table, finished={"overlap": "1s"}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        admin.execute(f"INSERT INTO t VALUES ('done', {write}, {write})")
        await step(source, client, ledger)
    assert ledger.totals == {("t", "", "succeeded"): 1}
    ((counts, total),) = ledger.runs.values()
    assert (counts, total < 0.1) == ([1, 0, 0, 0, 0], True)


async def test_nothing_to_count_waits_quietly(jobs: Admin, make_source: Any, make_ledger: Any) -> None:
    source, ledger = make_source(finished={"mode": "none"}), make_ledger()
    async with connect(source) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await follow(source, client, ledger)
    assert (ledger.followed, ledger.totals, ledger.counted) == (1, {}, set())
