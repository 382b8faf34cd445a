"""Statements that are given as text: what they tell, what is refused, and that nothing leaves the transaction."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect, diagnose
from taskq_exporter_postgres.follow import step

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, QueueStats, Reason, Snapshot, Source, State, WorkerState
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError

Admin = psycopg.Connection[Any]
MakeSql = Callable[..., Source]
READY = "SELECT queue, count(*) AS n FROM {schema}.jobs WHERE state = 'queued' GROUP BY 1"


@pytest.fixture
def make_sql(jobs: Admin, make_source: Any) -> MakeSql:
    """A source of the user's own SQL alone; its user has the rights on the whole table."""

    def make(statements: dict[str, Any], **options: Any) -> Source:
        source: Source = make_source(None, sql=statements, **options)
        jobs.execute("GRANT SELECT ON jobs, workers TO taskq_exporter; GRANT USAGE ON SCHEMA public TO taskq_exporter")
        jobs.execute("GRANT SELECT (xmin) ON jobs TO taskq_exporter")
        return source

    return make


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


async def refused(source: Source) -> AdapterError:
    with pytest.raises(AdapterError) as failed:
        await collect_once(source)
    return failed.value


async def test_statements_alone_tell_all_kinds(jobs: Admin, make_sql: MakeSql) -> None:
    jobs.execute(
        "INSERT INTO jobs (queue, state, started_at, locked_by) VALUES ('a', 'queued', NULL, NULL),"
        " ('a', 'active', now() - interval '30 s', 'w1'), ('b', 'error', NULL, NULL)"
    )
    jobs.execute("INSERT INTO workers VALUES ('w1', now(), 4), ('gone', now() - interval '1 day', 1)")
    source = make_sql(
        {
            "jobs": {
                "ready": READY + " -- a comment",
                "running": "SELECT queue, kind AS task, locked_by AS worker, count(*) AS n,"
                " extract(epoch FROM now() - min(started_at))::float8 AS oldest_seconds"
                " FROM public.jobs WHERE state = 'active' GROUP BY 1, 2, 3",
                "rest": {
                    "states": ["failed", "dead"],
                    "sql": "SELECT queue, 'failed' AS state, count(*) AS n"
                    " FROM public.jobs WHERE state = 'error' GROUP BY 1",
                },
            },
            "queues": "SELECT v AS queue, v = 'c' AS paused, 7 AS enqueued FROM (VALUES ('a'), ('c')) AS q (v)",
            "workers": "SELECT id AS worker, extract(epoch FROM last_seen)::float8 AS last_heartbeat,"
            " last_seen > now() - interval '1 min' AS up, slots FROM public.workers",
            "schedules": "SELECT 'nightly' AS entry, 1.7e9 AS last_run, 'infinity'::float8 AS next_run",
        }
    )
    snapshot = await collect_once(source)
    known = {State.READY: 0, State.RUNNING: 0, State.FAILED: 0, State.DEAD: 0}
    queues = {queue.name: queue for queue in snapshot.queues}
    assert {name: queue.tasks for name, queue in queues.items()} == {
        "a": {**known, State.READY: 1, State.RUNNING: 1},
        "b": {**known, State.FAILED: 1},
        "c": known,
    }
    assert queues["a"].oldest_age == {State.RUNNING: pytest.approx(30, abs=5)}
    assert queues["b"].oldest_age == {State.RUNNING: 0}
    assert (queues["c"].paused, queues["c"].enqueued, queues["b"].paused) == (True, {"": 7}, None)
    ((worker),) = snapshot.workers
    assert (worker.name, worker.state, worker.slots, worker.tasks) == ("w1", WorkerState.BUSY, 4, {"running": 1})
    ((scheduler),) = snapshot.schedulers
    assert [(e.name, e.last_run, e.next_run) for e in scheduler.entries] == [("nightly", 1.7e9, None)]
    assert [(r.queue, r.task) for r in snapshot.longest_runs] == [("a", "mail")]
    assert snapshot.problems == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 AS n; COMMIT; BEGIN READ WRITE; CREATE TABLE escaped ()",
        "SELECT 1 AS n) AS q; COMMIT; CREATE TABLE escaped (); SELECT * FROM (SELECT 1 AS n",
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "CREATE TABLE escaped ()",
        "WITH w AS (INSERT INTO public.jobs (queue) VALUES ('x') RETURNING 1) SELECT count(*) AS n FROM w",
        "DELETE FROM public.jobs RETURNING 1 AS n",
        "SELECT count(*) AS n FROM public.jobs FOR UPDATE",
        "SELECT 1 AS n INTO escaped",
        "SELECT n FROM (SELECT set_config('transaction_read_only', 'off', false),"
        " nextval('public.jobs_id_seq') AS n) AS q",
    ],
)
async def test_nothing_leaves_the_read_only_transaction(
    jobs: Admin, make_source: Any, postgres_dsn: str, statement: str
) -> None:
    """As the superuser: rights do not help here."""
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a')")
    source: Source = make_source(None, sql={"jobs": {"ready": statement}})
    superuser = Source(name="s", adapter="postgres", url=lambda: postgres_dsn, options=source.options)
    for _ in range(2):
        error = await refused(superuser)
        assert error.reason in (Reason.SCHEMA, Reason.PROTOCOL, Reason.UNSUPPORTED, Reason.PERMISSION), error
        assert "jobs.ready" in str(error)
    assert jobs.execute("SELECT count(*), to_regclass('public.escaped') FROM jobs").fetchall() == [(1, None)]
    assert jobs.execute("SELECT is_called FROM jobs_id_seq").fetchone() == (True,)
    assert jobs.execute("SELECT last_value FROM jobs_id_seq").fetchone() == (1,)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT queue, 1 AS n, 2 AS numbr FROM public.jobs", "gives a column 'numbr'; those of jobs are queue,"),
        ("SELECT queue FROM public.jobs", "must give n or oldest_seconds"),
        ("SELECT 1 AS n, 2 AS n", "gives a column twice"),
        ("SELECT queue, 1 AS n, nonsense FROM public.jobs", 'column "nonsense" does not exist'),
        ("SELECT 'x' AS n", "jobs.ready"),
        ("SELECT 1 AS n FROM jobs", 'relation "jobs" does not exist'),
        ("SELECT 1 AS n, 'running' AS state", "gives the state 'running'; it tells ready"),
    ],
)
async def test_what_does_not_fit_is_said(make_sql: MakeSql, statement: str, said: str) -> None:
    error = await refused(make_sql({"jobs": {"ready": statement}}))
    assert (error.reason, said in str(error)) == (Reason.SCHEMA, True), error


async def test_one_bad_statement_hides_no_other(jobs: Admin, make_sql: MakeSql) -> None:
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a')")
    source = make_sql({"jobs": {"ready": READY, "failed": "SELECT 1 AS n FROM public.nowhere"}})
    async with connect(source) as client:
        snapshot = await collect(source, client)
        assert [(q.name, dict(q.tasks)) for q in snapshot.queues] == [("a", {State.READY: 1})]
        assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.SCHEMA, "jobs.failed")]
        assert not snapshot.queues_complete
        found = {f.level: f.text for f in await diagnose(source, client)}
        assert "nowhere" in found["problem"]
        jobs.execute("CREATE TABLE nowhere (); GRANT SELECT ON nowhere TO taskq_exporter")
        snapshot = await collect(source, client)
    assert snapshot.problems == [], "it comes back by itself"
    assert [dict(q.tasks) for q in snapshot.queues] == [{State.READY: 1, State.FAILED: 0}]


async def test_a_statement_that_fails_later_is_a_part_where_it_is_optional(jobs: Admin, make_sql: MakeSql) -> None:
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a'); INSERT INTO workers VALUES ('w1', now(), 1)")
    dead = {"states": ["dead"], "sql": "SELECT 1 / (n - 1) AS n FROM (SELECT count(*) AS n FROM public.workers) AS w"}
    for optional in (True, False):
        source = make_sql({"jobs": {"dead": {**dead, "optional": optional}, "ready": READY}})
        if not optional:
            assert (await refused(source)).reason is Reason.SCHEMA
            continue
        snapshot = await collect_once(source)
        assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.SCHEMA, "jobs.dead")]
        assert snapshot.queues == [QueueStats(name="a", tasks={State.READY: 1})], "what is not known is absent"


async def test_an_optional_statement_does_not_stop_the_others_from_counting(
    jobs: Admin, make_sql: MakeSql, make_ledger: Any
) -> None:
    since = "FROM public.jobs AS j WHERE finished_at > {since} AND {window:j} AND state ="
    bad = {"sql": f"SELECT queue, 1 / priority AS run_seconds {since} 'error'", "optional": True}
    gone = {"sql": "SELECT queue FROM public.gone AS g WHERE {window:g} AND {since} < now()", "optional": True}
    finished = {"succeeded": f"SELECT queue {since} 'done'", "failed": bad, "lost": gone}
    source, ledger = make_sql({"jobs": {"ready": READY}, "finished": finished}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        assert (ledger.counted, ledger.gaps) == ({"succeeded", "failed"}, 1)
        for state in ("done", "error"):  # priority is 0
            jobs.execute("INSERT INTO jobs (queue, state, finished_at) VALUES ('a', %s, now())", [state])
        for _ in range(2):
            await step(source, client, ledger)
        assert ledger.totals == {("a", "", "succeeded"): 1}
        assert ledger.gaps == 2
        said = {f.text for f in await diagnose(source, client) if f.level == "problem"}
        assert any("finished.lost" in text for text in said)
    source = make_sql({"jobs": {"ready": READY}, "finished": {"lost": gone}})
    async with connect(source) as client:
        with pytest.raises(AdapterError, match="statement finished"):
            await step(source, client, make_ledger())


async def test_own_statements_beside_a_table_and_in_place_of_its_own(jobs: Admin, make_source: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue, state) VALUES ('a', 'queued'), ('a', 'error')")
    failed = "SELECT queue, count(*) AS n FROM public.jobs WHERE state = 'error' GROUP BY 1"
    (queue,) = (await collect_once(make_source(sql={"jobs": {"failed": failed}}))).queues
    assert (queue.tasks[State.READY], queue.tasks[State.FAILED]) == (1, 1)
    (queue,) = (await collect_once(make_source(sql={"jobs": {"waiting": None, "failed": failed}}))).queues
    assert queue.tasks == {State.RUNNING: 0, State.FAILED: 1}


@pytest.mark.parametrize("mode", ["xid", "ids", "totals"])
async def test_what_happened_is_counted_in_each_mode(
    jobs: Admin, make_sql: MakeSql, make_ledger: Any, mode: str
) -> None:
    columns = (
        "state AS outcome, queue, kind AS task, extract(epoch FROM finished_at - started_at)::float8 AS run_seconds"
    )
    over = "FROM public.jobs AS j WHERE state IN ('succeeded', 'retried') AND finished_at > {since}"
    finished = {
        "xid": f"SELECT {columns} {over} AND {{window:j}}",
        "ids": f"SELECT {columns}, id AS key, extract(epoch FROM finished_at)::float8 AS finished_at {over}",
        "totals": "SELECT state AS outcome, queue, kind AS task, count(*) AS total FROM public.jobs GROUP BY 1, 2, 3",
    }[mode]
    statements: dict[str, Any] = {
        "jobs": {"ready": READY},
        "finished": {"ended": {"outcomes": ["succeeded", "retried"], "sql": finished, "mode": mode}},
    }
    if mode == "xid":
        statements["started"] = (
            "SELECT queue, kind AS task FROM public.jobs AS j WHERE id > {above:jobs.id} AND {window:j}"
        )
        statements["enqueued"] = (
            "SELECT queue, kind AS task, priority FROM public.jobs AS j WHERE id > {above:jobs.id} AND {window:j}"
        )
    source, ledger = make_sql(statements), make_ledger()
    end = (
        "INSERT INTO jobs (queue, kind, state, started_at, finished_at)"
        " SELECT 'a', 'mail', 'succeeded', now() - interval '1 s', now() FROM generate_series(1, {})"
    )
    jobs.execute(end.format(5))
    async with connect(source) as client:
        for n in (1, 2, 3):
            await step(source, client, ledger)
            jobs.execute(end.format(n))
            jobs.execute(end.format(1).replace("'succeeded'", "'retried'"))
            await step(source, client, ledger)
    assert ledger.totals == {("a", "mail", "succeeded"): 6}
    assert ledger.others.get(("retried", "a", "mail", "")) == 3
    assert ledger.counted == {"succeeded", "retried"} | ({"started", "enqueued"} if mode == "xid" else set())
    if mode == "xid":
        assert ledger.others[("started", "a", "mail", "")] == 9
        assert ledger.others[("enqueued", "a", "mail", "0")] == 9
    if mode != "totals":
        assert {key: sum(counts) for key, (counts, _) in ledger.runs.items()} == {
            ("a", "mail", "succeeded"): 6,
            ("a", "mail", "retried"): 3,
        }


def write_events(dsn: str, seconds: float, seed: int) -> None:
    """Events in transactions of up to a second, some in savepoints, some rolled back."""
    chance, until = random.Random(seed), time.monotonic() + seconds
    with psycopg.connect(dsn) as connection:
        while time.monotonic() < until:
            with connection.transaction(force_rollback=chance.random() < 0.1):
                for _ in range(chance.randint(1, 5)):
                    with connection.transaction(force_rollback=chance.random() < 0.1):
                        connection.execute("INSERT INTO events DEFAULT VALUES")
                    time.sleep(chance.choice((0.0, 0.01, 0.2)))


async def test_events_by_id_are_exact_under_concurrent_writers(
    jobs: Admin, make_sql: MakeSql, make_ledger: Any, postgres_dsn: str
) -> None:
    """Ids are given out in another order than transactions end; the exporter starts anew every few looks."""
    jobs.execute("CREATE TABLE events (id bigserial PRIMARY KEY)")
    started = "SELECT 'a' AS queue FROM public.events AS e WHERE id > {above:events.id} AND {window:e}"
    source, ledger = make_sql({"jobs": {"ready": READY}, "started": started}), make_ledger()
    jobs.execute("GRANT SELECT (id, xmin) ON events TO taskq_exporter")
    async with connect(source) as client:
        await step(source, client, ledger)
    writers = [threading.Thread(target=write_events, args=(postgres_dsn, 5.0, n), daemon=True) for n in range(10)]
    for writer in writers:
        writer.start()
    total, writing = 0, True
    while writing:
        writing = any(writer.is_alive() for writer in writers)
        ledger = make_ledger(json.loads(json.dumps(ledger.cursor)))
        async with connect(source) as client:
            for _ in range(3):
                await step(source, client, ledger)
                await asyncio.sleep(0.05)
        total += ledger.others["started", "a", "", ""]
    (count, highest) = jobs.execute("SELECT count(*), max(id) FROM events").fetchone() or (0, 0)
    assert total == count
    assert highest > count > 200, "rolled back ids leave gaps"


async def test_totals_that_begin_anew_count_from_there(jobs: Admin, make_sql: MakeSql, make_ledger: Any) -> None:
    jobs.execute("CREATE TABLE kept (total bigint); INSERT INTO kept VALUES (100)")
    total = {"sql": "SELECT 'a' AS queue, total FROM public.kept", "mode": "totals"}
    source, ledger = make_sql({"jobs": {"ready": READY}, "finished": {"failed": total}}), make_ledger()
    jobs.execute("GRANT SELECT ON kept TO taskq_exporter")
    async with connect(source) as client:
        for kept in (100, 130, 4, 9):
            jobs.execute("UPDATE kept SET total = %s", [kept])
            await step(source, client, ledger)
    assert ledger.totals == {("a", "", "failed"): 30 + 4 + 5}


async def test_an_outcome_that_was_not_named_counts_nothing(jobs: Admin, make_sql: MakeSql, make_ledger: Any) -> None:
    finished = "SELECT 'succeeded' AS outcome, queue FROM public.jobs AS j WHERE finished_at > {since} AND {window:j}"
    source, ledger = make_sql({"jobs": {"ready": READY}, "finished": {"failed": finished}}), make_ledger()
    async with connect(source) as client:
        await step(source, client, ledger)
        cursor = ledger.cursor
        jobs.execute("INSERT INTO jobs (queue, finished_at) VALUES ('a', now())")
        with pytest.raises(AdapterError, match="gives the outcome 'succeeded'; it tells failed"):
            await step(source, client, ledger)
    assert (ledger.totals, ledger.cursor) == ({}, cursor)


INVALID = """\
sources:
  - name: both
    adapter: postgres
    url: postgresql://db/app
    preset: procrastinate
    table: {name: jobs, columns: {state: state}, states: {ready: [new]}}
  - name: unknown
    adapter: postgres
    url: postgresql://db/app
    preset: procrastinat
    shema: app
  - name: own
    adapter: postgres
    url: postgresql://db/app
    sql:
      jobs:
        ready: SELECT queue, count(*) AS n FROM {shcema}.jobs GROUP BY 1
      finished:
        failed: SELECT queue FROM app.jobs WHERE state = 'failed'
      worker: SELECT 1
"""


def test_mistakes_in_a_file_have_their_places(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(INVALID)
    with pytest.raises(ConfigError) as caught:
        load_config(path, Adapters())
    said = str(caught.value).replace(f"{path}:", "").splitlines()
    assert [line.split(": ")[0] for line in said] == ["2:5", "10:13", "11:5", "17:16", "19:17", "20:7"]
    for line, part in zip(
        said,
        (
            "a source has either preset or table",
            "unknown preset 'procrastinat'; did you mean 'procrastinate'?",
            "unknown key 'shema'; did you mean 'schema'?",
            "unknown placeholder {shcema}",
            "it needs {window:ALIAS}",
            "unknown key 'worker'; did you mean 'workers'?",
        ),
        strict=True,
    ):
        assert part in line
