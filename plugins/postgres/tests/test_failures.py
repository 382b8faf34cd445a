"""What a user reads when something is missing: what to do, and no secret."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect, diagnose, grants
from taskq_exporter_postgres.follow import step

from taskq_exporter.api import AdapterError, Finding, Reason, Snapshot, Source

Admin = psycopg.Connection[Any]


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


async def failure(source: Source) -> AdapterError:
    with pytest.raises(AdapterError) as failed:
        await collect_once(source)
    return failed.value


async def findings(source: Source) -> list[Finding]:
    async with connect(source) as client:
        return list(await diagnose(source, client))


async def test_a_missing_table_and_a_missing_column(jobs: Admin, make_source: Any, table: Any) -> None:
    source = make_source()  # so that the role exists
    jobs.execute("ALTER TABLE jobs RENAME COLUMN kind TO task_name")
    error = await failure(source)
    assert error.reason is Reason.SCHEMA
    assert 'table "public"."jobs" has no column kind; it has attempts, created_at,' in str(error)
    jobs.execute("DROP TABLE jobs")
    error = await failure(source)
    assert (error.reason, 'there is no table "public"."jobs"' in str(error)) == (Reason.SCHEMA, True)


async def test_a_missing_right_names_the_grant_that_mends_it(
    jobs: Admin, make_source: Any, make_ledger: Any, table: Any
) -> None:
    source = make_source()
    jobs.execute("REVOKE ALL ON jobs FROM taskq_exporter")
    error = await failure(source)
    assert error.reason is Reason.PERMISSION
    jobs.execute(str(error).removeprefix("run: "))
    await collect_once(source)
    async with connect(source) as client:
        for missing in ('GRANT SELECT ("id", "finished_at", "xmin")', None):
            if missing is None:
                await step(source, client, make_ledger())
                break
            with pytest.raises(AdapterError) as failed:
                await step(source, client, make_ledger())
            assert missing in str(failed.value)
            jobs.execute(str(failed.value).removeprefix("run: "))
    jobs.execute("CREATE SCHEMA other; CREATE TABLE other.jobs AS SELECT * FROM jobs")
    source = make_source({**table, "name": "other.jobs"}, grant=False)
    error = await failure(source)
    jobs.execute(str(error).removeprefix("run: "))
    assert 'GRANT SELECT ("state"' in str(await failure(source))


async def test_a_word_that_the_enum_does_not_have(admin: Admin, make_source: Any) -> None:
    admin.execute("CREATE TYPE mood AS ENUM ('new'); CREATE TABLE e (state mood)")
    error = await failure(make_source({"name": "e", "columns": {"state": "state"}, "states": {"ready": ["queued"]}}))
    assert (error.reason, "invalid input value for enum" in str(error)) == (Reason.SCHEMA, True)
    assert '"queued"' in str(error)


async def test_a_value_that_cannot_be_read_is_of_the_table(admin: Admin, make_source: Any) -> None:
    admin.execute("CREATE TABLE t (state text, at timestamp); INSERT INTO t VALUES ('r', '294276-12-31 23:59')")
    columns = {"state": "state", "created_at": "at"}
    table = {"name": "t", "columns": columns, "states": {"ready": "r"}, "naive_timezone": "America/New_York"}
    error = await failure(make_source(table))
    assert (error.reason, "cannot have" in str(error)) == (Reason.SCHEMA, True)


@pytest.mark.parametrize(("type_", "part"), [("bigint", "set epoch_unit"), ("text", "none of a time")])
async def test_times_of_unclear_types(admin: Admin, make_source: Any, type_: str, part: str) -> None:
    admin.execute(f"CREATE TABLE t (state text, at {type_})")
    columns = {"state": "state", "created_at": "at"}
    error = await failure(make_source({"name": "t", "columns": columns, "states": {"ready": ["r"]}}))
    assert (error.reason, part in str(error), "column at" in str(error)) == (Reason.SCHEMA, True, True)


async def test_an_unknown_time_zone(admin: Admin, make_source: Any) -> None:
    admin.execute("CREATE TABLE t (state text, at timestamp); INSERT INTO t VALUES ('r', now())")
    columns = {"state": "state", "created_at": "at"}
    table = {"name": "t", "columns": columns, "states": {"ready": ["r"]}, "naive_timezone": "Mars/Base"}
    error = await failure(make_source(table))
    assert (error.reason, "Mars/Base" in str(error)) == (Reason.SCHEMA, True)


async def test_a_migration_is_not_waited_for(jobs: Admin, make_source: Any, postgres_dsn: str) -> None:
    source = make_source()
    with psycopg.connect(postgres_dsn) as migration:
        migration.execute("ALTER TABLE jobs ADD COLUMN extra text")
        started = time.monotonic()
        error = await failure(source)
        assert time.monotonic() - started < 2
    assert (error.reason, "locked" in str(error)) == (Reason.BUSY, True)
    await collect_once(source)


async def test_a_slow_count_names_the_index(jobs: Admin, make_source: Any) -> None:
    jobs.execute("CREATE FUNCTION slowly() RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(1)::text'")
    jobs.execute("ALTER TABLE jobs RENAME TO stored; DROP INDEX jobs_queued")
    jobs.execute("CREATE VIEW jobs AS SELECT *, slowly() AS nap FROM stored")
    jobs.execute("ALTER VIEW jobs RENAME COLUMN queue TO q; ALTER VIEW jobs RENAME COLUMN nap TO queue")
    jobs.execute("INSERT INTO stored (queue) VALUES ('a')")
    error = await failure(make_source(timeout=0.5, finished={"mode": "none"}))
    assert error.reason is Reason.TIMEOUT
    index = (
        'CREATE INDEX CONCURRENTLY ON "public"."jobs" ("queue", "priority", "run_at")'
        """ INCLUDE ("created_at", "attempts") WHERE "state" = 'queued';"""
    )
    assert index in str(error)
    jobs.execute(index.replace('"public"."jobs"', '"public"."stored"'))  # it is valid SQL


async def test_a_column_of_ids_as_queue_is_refused(jobs: Admin, make_source: Any, table: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue) SELECT n FROM generate_series(1, 20001) AS n")
    error = await failure(make_source())
    assert (error.reason, "must hold names" in str(error)) == (Reason.COST, True)


async def test_workers_that_cannot_be_read_are_a_part(jobs: Admin, make_source: Any, workers: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a')")
    source = make_source(workers=workers)
    jobs.execute("ALTER TABLE workers RENAME COLUMN last_seen TO seen")
    snapshot = await collect_once(source)
    assert [q.name for q in snapshot.queues] == ["a"]
    ((problem),) = snapshot.problems
    assert (problem.reason, problem.part, "no column last_seen" in problem.message) == (Reason.SCHEMA, "workers", True)
    jobs.execute("ALTER TABLE workers RENAME COLUMN seen TO last_seen")
    jobs.execute("ALTER TABLE workers ALTER last_seen TYPE text")
    assert [p.reason for p in (await collect_once(source)).problems] == [Reason.SCHEMA]


async def test_grants_may_run_again_and_hide_the_rest(jobs: Admin, make_source: Any, workers: Any) -> None:
    source = make_source(workers=workers)
    text = grants(source)
    assert "PASSWORD" not in text.upper().replace("\\PASSWORD", "").replace("THE PASSWORD IS NOT", "")
    jobs.execute(text)
    with psycopg.connect(source.url(), autocommit=True) as user:
        for forbidden in ("SELECT payload FROM jobs", "SELECT * FROM jobs", "TABLE pg_authid"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                user.execute(forbidden)  # type: ignore[arg-type]
        user.execute("SET default_transaction_read_only = off")
        for forbidden in (
            "DELETE FROM jobs",
            "UPDATE workers SET slots = 1",
            "CREATE TABLE mine ()",
            "SELECT setval('jobs_id_seq', 1)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                user.execute(forbidden)  # type: ignore[arg-type]


async def test_hidden_rows_are_not_counted_as_none(
    jobs: Admin, make_source: Any, make_ledger: Any, workers: Any, table: Any
) -> None:
    """Row-level security shows fewer rows and no error: zeros that are none must not reach the page."""
    jobs.execute("INSERT INTO jobs (queue) VALUES ('a'), ('b'); INSERT INTO workers VALUES ('w1', now(), 4)")
    source = make_source(workers=workers)
    jobs.execute("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON jobs USING (queue = 'a')")
    snapshot = await collect_once(source)
    ((reason, part, message),) = [(p.reason, p.part, p.message) for p in snapshot.problems]
    assert (reason, part, "BYPASSRLS" in message) == (Reason.PERMISSION, "rows", True)
    assert (snapshot.queues, snapshot.queues_complete, snapshot.longest_runs) == ([], False, [])
    assert [(w.name, w.up, w.state, w.tasks) for w in snapshot.workers] == [("w1", True, None, {})]
    able = {c.family for c in snapshot.capabilities if c.able}
    assert "taskq_worker_up" in able
    assert not [family for family in able if family.startswith(("taskq_task", "taskq_oldest"))]
    assert "permission" in {c.reason for c in snapshot.capabilities if c.family == "taskq_tasks"}
    async with connect(source) as client:
        with pytest.raises(AdapterError) as failed:
            await step(source, client, make_ledger())
    assert failed.value.reason is Reason.PERMISSION
    jobs.execute("CREATE POLICY cut ON jobs AS RESTRICTIVE USING (queue = 'a')")
    policy, bypass = (part.split(";")[0] for part in message.split("run: ")[1].split("way: "))
    for statement, problems in ((policy, 1), ("DROP POLICY cut ON jobs", 0)):
        jobs.execute(statement)
        assert len((await collect_once(source)).problems) == problems
    assert {q.name for q in (await collect_once(source)).queues} == {"a", "b"}
    jobs.execute("DROP POLICY taskq_exporter ON jobs")
    assert len((await collect_once(source)).problems) == 1
    jobs.execute(bypass)
    try:
        assert {q.name for q in (await collect_once(source)).queues} == {"a", "b"}
    finally:
        jobs.execute("ALTER ROLE taskq_exporter NOBYPASSRLS")  # roles are the server's, not the database's


async def test_hidden_workers_are_a_problem_of_their_own(jobs: Admin, make_source: Any, workers: Any) -> None:
    source = make_source(workers=workers)
    jobs.execute("ALTER TABLE workers ENABLE ROW LEVEL SECURITY")
    snapshot = await collect_once(source)
    assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.PERMISSION, "workers")]


async def test_diagnose_a_well_kept_table(jobs: Admin, make_source: Any, workers: Any) -> None:
    source = make_source(workers=workers)
    *well, finding = await findings(source)
    assert finding.level == "note"
    assert "by queue and priority" in finding.text
    jobs.execute(finding.advice)  # type: ignore[arg-type]
    assert await findings(source) == well
    assert [(f.level, f.advice) for f in well] == [("ok", "")] * 3


async def test_diagnose_names_what_is_missing(jobs: Admin, make_source: Any, table: Any) -> None:
    jobs.execute("DROP INDEX jobs_queued, jobs_active, jobs_finished")
    jobs.execute("ALTER TABLE jobs ALTER run_at TYPE timestamp; ALTER TABLE jobs ENABLE ROW LEVEL SECURITY")
    source = make_source()
    said = await findings(source)
    assert [f.level for f in said] == ["ok", "ok", "note", "problem", "note", "note", "note"]
    assert "run_at" in said[2].text
    assert "row-level security" in said[3].text
    for finding in said[4:]:
        jobs.execute(finding.advice)  # type: ignore[arg-type]
    jobs.execute("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY")
    assert [f.level for f in await findings(source)] == ["ok", "ok", "note"]
    jobs.execute("ALTER TABLE jobs DROP COLUMN kind")
    assert [f.level for f in await findings(source)] == ["problem"]


async def test_diagnose_knows_indexes_on_numbers_and_none_on_views(admin: Admin, make_source: Any) -> None:
    admin.execute("CREATE TABLE n (state int, at timestamptz); CREATE VIEW v AS SELECT * FROM n")
    table = {"name": "n", "columns": {"state": "state", "scheduled_at": "at"}, "states": {"ready": [0]}}
    source = make_source(table)
    *_, finding = await findings(source)
    admin.execute(finding.advice)  # type: ignore[arg-type]
    for found in (await findings(source), await findings(make_source({**table, "name": "v"}))):
        assert [f.level for f in found] == ["ok"]
