"""What a collect says of a jobs table, against plain SQL over the same rows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect

from taskq_exporter.api import QueueStats, Snapshot, Source, State, WorkerState

Admin = psycopg.Connection[Any]


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


def by_name(snapshot: Snapshot) -> dict[str, QueueStats]:
    return {queue.name: queue for queue in snapshot.queues}


async def test_counts_equal_plain_counts(jobs: Admin, make_source: Any, fill: str) -> None:
    jobs.execute(fill)
    snapshot = await collect_once(make_source())
    said = {(q.name, state.value): n for q in snapshot.queues for state, n in q.tasks.items() if n}
    plain = jobs.execute(
        "SELECT queue, CASE WHEN state = 'active' THEN 'running' WHEN run_at > now() AND attempts > 0 THEN 'retry'"
        " WHEN run_at > now() THEN 'scheduled' ELSE 'ready' END, count(*)"
        " FROM jobs WHERE state IN ('queued', 'active') GROUP BY 1, 2"
    ).fetchall()
    assert said == {(queue, state): n for queue, state, n in plain}
    assert len(said) == 12  # three queues, four states: nothing is compared with nothing
    levels = {(q.name, level): n for q in snapshot.queues for (_, level), n in q.by_priority.items()}
    plain_levels = jobs.execute(
        "SELECT queue, priority::text, count(*) FROM jobs WHERE state = 'queued' AND coalesce(run_at, now()) <= now()"
        " GROUP BY 1, 2"
    ).fetchall()
    assert levels == {(queue, level): n for queue, level, n in plain_levels}
    assert (snapshot.server, snapshot.server_version.split(".")[0].isdigit()) == ("postgresql", True)


async def test_ages_are_by_the_servers_clock(jobs: Admin, make_source: Any) -> None:
    jobs.execute(
        "INSERT INTO jobs (queue, state, created_at, run_at, started_at) VALUES"
        " ('a', 'queued', now() - interval '100 s', NULL, NULL),"
        " ('a', 'queued', now() - interval '500 s', now() - interval '10 s', NULL),"  # could run for 10 s
        " ('a', 'queued', now() - interval '900 s', now() + interval '1 h', NULL),"
        " ('a', 'active', now() - interval '900 s', NULL, now() - interval '30 s'),"
        " ('b', 'queued', now() + interval '1 h', NULL, NULL),"  # a writer's clock that is ahead
        " ('c', 'active', '-infinity', NULL, '-infinity')"
    )
    queues = by_name(await collect_once(make_source()))
    assert queues["a"].oldest_age == {State.READY: pytest.approx(100, abs=5), State.RUNNING: pytest.approx(30, abs=5)}
    assert queues["b"].oldest_age == {State.READY: 0, State.RUNNING: 0}
    assert queues["c"].oldest_age == {State.READY: 0}, "an infinite age is not known"
    assert queues["c"].tasks[State.RUNNING] == 1


async def test_an_empty_table_without_a_queue_column_is_one_queue_at_zero(
    jobs: Admin, make_source: Any, table: Any
) -> None:
    del table["columns"]["queue"]
    (queue,) = (await collect_once(make_source(table))).queues
    assert queue.name == "jobs"
    assert queue.tasks == {State.READY: 0, State.SCHEDULED: 0, State.RETRY: 0, State.RUNNING: 0}
    assert queue.oldest_age == {State.READY: 0, State.RUNNING: 0}
    (queue,) = (await collect_once(make_source({**table, "queue": "billing"}))).queues
    assert queue.name == "billing"


async def test_a_job_without_queue_counts_under_the_default(jobs: Admin, make_source: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue) VALUES (NULL), ('a')")
    assert {n: q.tasks[State.READY] for n, q in by_name(await collect_once(make_source())).items()} == {
        "a": 1,
        "jobs": 1,
    }


async def test_only_state_is_required(jobs: Admin, make_source: Any, table: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue, state) VALUES ('a', 'queued'), ('b', 'active'), ('b', 'done')")
    bare = {"name": "jobs", "columns": {"state": "state"}, "states": {"ready": ["queued"], "running": ["active"]}}
    snapshot = await collect_once(make_source(bare))
    assert snapshot.queues == [QueueStats(name="jobs", tasks={State.READY: 1, State.RUNNING: 1})]
    assert (snapshot.longest_runs, snapshot.workers) == ([], [])


async def test_waiting_words_and_their_times(jobs: Admin, make_source: Any, table: Any) -> None:
    """A word for later jobs whose time has come is ready, and overdue: nobody moved it."""
    table["states"] |= {"scheduled": ["later"], "retry": ["again"], "blocked": ["waits"], "reserved": ["held"]}
    jobs.execute(
        "INSERT INTO jobs (queue, state, run_at) VALUES ('a', 'later', now() + interval '1 h'), ('a', 'later', NULL),"
        " ('a', 'later', now() - interval '1 s'), ('a', 'again', now() - interval '1 s'),"
        " ('a', 'again', now() + interval '1 h'), ('a', 'queued', now() + interval '1 h'), ('a', 'queued', NULL),"
        " ('a', 'waits', NULL), ('a', 'held', NULL)"
    )
    (queue,) = (await collect_once(make_source(table))).queues
    assert queue.tasks == {
        State.READY: 3,
        State.SCHEDULED: 3,
        State.RETRY: 1,
        State.RESERVED: 1,
        State.RUNNING: 0,
        State.BLOCKED: 1,
    }
    assert queue.overdue == 2


async def test_longest_runs_and_workers(jobs: Admin, make_source: Any, workers: Any) -> None:
    jobs.execute(
        "INSERT INTO jobs (queue, kind, state, started_at, locked_by) VALUES"
        " ('a', 'mail', 'active', now() - interval '10 s', 'w1'),"
        " ('a', 'mail', 'active', now() - interval '70 s', 'w1'),"
        " ('a', 'bill', 'active', now() - interval '5 s', 'w2'), ('a', 'bill', 'active', now(), 'unregistered')"
    )
    jobs.execute(
        "INSERT INTO workers VALUES ('w1', now(), 4), ('w2', now() - interval '2 min', 1), ('w3', now(), NULL),"
        " ('gone', now() - interval '1 day', 1)"
    )
    snapshot = await collect_once(make_source(workers=workers))
    assert {(r.queue, r.task): round(r.seconds) for r in snapshot.longest_runs} == {
        ("a", "mail"): pytest.approx(70, abs=5),
        ("a", "bill"): pytest.approx(5, abs=5),
    }
    found = {w.name: w for w in snapshot.workers}
    assert sorted(found) == ["unregistered", "w1", "w2", "w3"]
    assert [(n, w.up, w.state, w.tasks, w.slots) for n, w in sorted(found.items())] == [
        ("unregistered", None, None, {"running": 1}, None),
        ("w1", True, WorkerState.BUSY, {"running": 2}, 4),
        ("w2", False, WorkerState.OFFLINE, {"running": 1}, 1),
        ("w3", True, WorkerState.IDLE, {"running": 0}, None),
    ]
    assert found["w1"].longest_run == pytest.approx(70, abs=5)
    (now,) = jobs.execute("SELECT extract(epoch FROM now())::float8").fetchone() or (0,)
    assert found["w2"].last_heartbeat == pytest.approx(now - 120, abs=5)


async def test_no_state_of_a_worker_where_its_jobs_are_not_known(
    jobs: Admin, make_source: Any, table: Any, workers: Any
) -> None:
    del table["columns"]["worker"]
    jobs.execute("INSERT INTO workers VALUES ('w1', now(), 4)")
    (worker,) = (await collect_once(make_source(table, workers=workers))).workers
    assert (worker.up, worker.state) == (True, None)


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
async def test_naive_times(admin: Admin, make_source: Any, zone: str) -> None:
    """Written by a session in New York; read right whatever zone the exporter's role has."""
    admin.execute("CREATE TABLE n (state text, at timestamp, began timestamp)")
    admin.execute(f"SET TimeZone = '{zone}'")
    admin.execute("INSERT INTO n VALUES ('r', now() - interval '60 s', NULL), ('a', now(), now() - interval '20 s')")
    table = {
        "name": "n",
        "columns": {"state": "state", "scheduled_at": "at", "started_at": "began"},
        "states": {"ready": ["r"], "running": ["a"]},
        "naive_timezone": zone,
    }
    source = make_source(table)
    admin.execute("ALTER ROLE taskq_exporter SET TimeZone = 'America/New_York'")
    (queue,) = (await collect_once(source)).queues
    assert queue.oldest_age == {State.READY: pytest.approx(60, abs=5), State.RUNNING: pytest.approx(20, abs=5)}


@pytest.mark.parametrize(("type_", "unit", "factor"), [("bigint", "ms", 1000), ("double precision", "s", 1)])
async def test_epoch_times_and_integer_states(
    admin: Admin, make_source: Any, type_: str, unit: str, factor: int
) -> None:
    admin.execute(f"CREATE TABLE e (state int, at {type_})")
    admin.execute(
        f"INSERT INTO e VALUES (0, extract(epoch FROM now() - interval '60 s') * {factor}), (0, NULL), (2, 0)"
    )
    table = {
        "name": "e",
        "columns": {"state": "state", "scheduled_at": "at"},
        "states": {"ready": [0], "running": 1},
        "epoch_unit": unit,
    }
    (queue,) = (await collect_once(make_source(table))).queues
    assert queue.tasks == {State.READY: 2, State.SCHEDULED: 0, State.RUNNING: 0}
    assert queue.oldest_age == {State.READY: pytest.approx(60, abs=5)}


@pytest.mark.parametrize("type_", ["bigint", "double precision", "numeric"])
async def test_epoch_times_out_of_range(admin: Admin, make_source: Any, type_: str) -> None:
    """One row in the wrong unit, or a sentinel for never, does not hide the others."""
    admin.execute(f"CREATE TABLE e (state text, run_at {type_}, began {type_})")
    far = {"bigint": "9223372036854775807", "double precision": "'NaN'", "numeric": "1e400"}[type_]
    admin.execute(f"INSERT INTO e VALUES ('r', 1.7e9, 0), ('r', 1.7e15, 0), ('r', {far}, 0), ('r', -1.7e15, 0)")
    admin.execute(f"INSERT INTO e VALUES ('a', 0, extract(epoch FROM now()) - 20), ('a', 0, {far}), ('a', 0, -1.7e15)")
    table = {
        "name": "e",
        "columns": {"state": "state", "scheduled_at": "run_at", "started_at": "began"},
        "states": {"ready": "r", "running": "a"},
        "epoch_unit": "s",
    }
    (queue,) = (await collect_once(make_source(table))).queues
    assert queue.tasks == {State.READY: 2, State.SCHEDULED: 2, State.RUNNING: 3}
    assert queue.oldest_age[State.RUNNING] == pytest.approx(20, abs=5)


async def test_times_and_slots_that_mean_unknown(jobs: Admin, make_source: Any, workers: Any) -> None:
    jobs.execute("ALTER TABLE workers ADD began timestamptz")
    jobs.execute(
        "INSERT INTO workers VALUES ('w1', now(), 4, now()), ('w2', now(), -1, '0001-01-01'),"
        " ('w3', now(), NULL, '-infinity'), ('w4', now(), 0, 'infinity')"
    )
    workers = {**workers, "columns": {**workers["columns"], "started_at": "began"}}
    found = (await collect_once(make_source(workers=workers))).workers
    assert [(w.name, w.slots, w.started is not None) for w in found] == [
        ("w1", 4, True),
        ("w2", None, False),
        ("w3", None, False),
        ("w4", 0, False),
    ]


async def test_long_names_are_cut(jobs: Admin, make_source: Any, workers: Any) -> None:
    jobs.execute(
        "INSERT INTO jobs (queue, kind, locked_by, state, started_at)"
        " SELECT repeat(c, 5000), repeat(c, 5000), repeat(c, 5000), state, now()"
        " FROM unnest(ARRAY['q', 'é']) AS c, unnest(ARRAY['queued', 'active']) AS state"
    )
    jobs.execute("INSERT INTO workers (id) VALUES (repeat('q', 5000))")
    snapshot = await collect_once(make_source(workers=workers))
    names = ["q" * 256, "é" * 256]
    assert sorted(q.name for q in snapshot.queues) == names
    assert sorted(w.name for w in snapshot.workers) == names
    assert sorted(r.task for r in snapshot.longest_runs) == names


async def test_enum_states_and_odd_names(admin: Admin, make_source: Any) -> None:
    admin.execute('CREATE SCHEMA "Odd.Schema"')
    admin.execute("CREATE TYPE \"Odd.Schema\".mood AS ENUM ('it''s \\new', 'on')")
    admin.execute(
        'CREATE TABLE "Odd.Schema"."Jobs ""100%""" ("St""ate" "Odd.Schema".mood, "select" text, payload text)'
    )
    admin.execute("INSERT INTO \"Odd.Schema\".\"Jobs \"\"100%\"\"\" VALUES ('it''s \\new', 'q %s'), ('on', 'q %s')")
    table = {
        "name": '"Odd.Schema"."Jobs ""100%"""',
        "columns": {"state": 'St"ate', "queue": "select"},
        "states": {"ready": "it's \\new", "running": ["on"]},
    }
    (queue,) = (await collect_once(make_source(table))).queues
    assert (queue.name, queue.tasks) == ("q %s", {State.READY: 1, State.RUNNING: 1})


async def test_a_sentinel_for_immediately(admin: Admin, make_source: Any) -> None:
    admin.execute("CREATE TABLE d (state text, run_after timestamptz, made timestamptz)")
    admin.execute("INSERT INTO d VALUES ('READY', '9999-01-01 00:00+00', now() - interval '60 s')")
    table = {
        "name": "d",
        "columns": {"state": "state", "scheduled_at": "run_after", "created_at": "made"},
        "states": {"ready": ["READY"]},
        "immediate_sentinel": "9999-01-01",
    }
    source = make_source(table)
    admin.execute("ALTER ROLE taskq_exporter SET TimeZone = 'America/New_York'")
    (queue,) = (await collect_once(source)).queues
    assert queue.tasks[State.READY] == 1
    assert queue.oldest_age[State.READY] == pytest.approx(60, abs=5)


async def test_reading_changes_nothing(jobs: Admin, make_source: Any, workers: Any, fill: str) -> None:
    jobs.execute(fill)
    jobs.execute("INSERT INTO workers VALUES ('w1', now(), 4)")
    rows = "SELECT xmin, xmax, ctid, t.* FROM {} AS t ORDER BY 4"
    before = [jobs.execute(rows.format(name)).fetchall() for name in ("jobs", "workers")]
    source = make_source(workers=workers)
    async with connect(source) as client:
        for _ in range(100):
            await collect(source, client)
    assert [jobs.execute(rows.format(name)).fetchall() for name in ("jobs", "workers")] == before
