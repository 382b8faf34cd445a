"""What a database has of a preset: found by DATABASE_URL, in whichever version; what does not fit is said exactly."""

from __future__ import annotations

import functools
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres import detect as detect_module
from taskq_exporter_postgres import options, preset
from taskq_exporter_postgres.adapter import collect, connect, detect, diagnose, grants
from taskq_exporter_postgres.follow import step
from taskq_exporter_postgres.preset import Preset

from taskq_exporter.api import AdapterError, Reason, Snapshot, Source, State

pytestmark = pytest.mark.newest

Admin = psycopg.Connection[Any]
#: Two versions of a queue: the newer has a column `paused` and keeps its archive in a table of its own.
SOME = Preset.model_validate(
    {
        "name": "some",
        "about": "some queue",
        "verified": ["2.0", "1.0"],
        "reads": {"some_jobs": ["id", "queue", "state", "ended", "xmin"]},
        "statements": {
            "jobs": {"ready": "SELECT queue, count(*) AS n FROM {schema}.some_jobs WHERE state = 'new' GROUP BY 1"},
            "finished": {
                "succeeded": "SELECT queue FROM {schema}.some_jobs AS j WHERE ended > {since} AND {window:j}",
            },
        },
        "variants": [
            {
                "versions": "2",
                "reads": {"some_jobs": ["paused"], "some_archive": ["queue", "ended", "xmin"]},
                "statements": {
                    "jobs": {"blocked": "SELECT queue, count(*) AS n FROM {schema}.some_jobs WHERE paused GROUP BY 1"},
                    "finished": {
                        "succeeded": "SELECT queue FROM {schema}.some_archive AS a WHERE ended > {since} AND {window:a}"
                    },
                },
            },
            {"versions": "1"},
        ],
    }
)
JOBS = "CREATE TABLE {}.some_jobs (id int, queue text, state text, ended timestamptz, payload text)"


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One preset more."""
    names, load = preset.preset_names, preset.load_preset
    everything = [*names(), "some"]
    with_some = functools.cache(lambda name: SOME if name == "some" else load(name))
    for module in (options, detect_module):
        monkeypatch.setattr(module, "preset_names", lambda: everything)
        monkeypatch.setattr(module, "load_preset", with_some)


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


async def failure(source: Source) -> AdapterError:
    with pytest.raises(AdapterError) as failed:
        await collect_once(source)
    return failed.value


def some(make_source: Any, **more: Any) -> Source:
    source: Source = make_source(None, preset="some", **more)
    return source


async def test_each_version_is_read_as_it_is(admin: Admin, make_source: Any, make_ledger: Any) -> None:
    """The same source, before and after a migration, without a restart."""
    admin.execute(JOBS.format("public"))
    admin.execute("INSERT INTO some_jobs (queue, state) VALUES ('a', 'new')")
    source, ledger = some(make_source), make_ledger()
    async with connect(source) as client, connect(source) as other:
        (queue,) = (await collect(source, client)).queues
        assert queue.tasks == {State.READY: 1}
        await step(source, other, ledger)
        admin.execute("INSERT INTO some_jobs (queue, state, ended) VALUES ('a', 'done', now())")
        await step(source, other, ledger)
        admin.execute("ALTER TABLE some_jobs RENAME queue TO q")
        for doing in (collect(source, client), step(source, other, ledger)):
            with pytest.raises(AdapterError) as failed:
                await doing
            assert failed.value.reason is Reason.SCHEMA
        admin.execute("ALTER TABLE some_jobs RENAME q TO queue; ALTER TABLE some_jobs ADD paused boolean")
        admin.execute("CREATE TABLE some_archive (queue text, ended timestamptz)")
        admin.execute(grants(source))
        admin.execute("INSERT INTO some_jobs (queue, paused) VALUES ('a', true)")
        (queue,) = (await collect(source, client)).queues
        assert queue.tasks == {State.READY: 1, State.BLOCKED: 1}
        await step(source, other, ledger)
        admin.execute("INSERT INTO some_archive VALUES ('a', now())")
        await step(source, other, ledger)
    assert ledger.totals == {("a", "", "succeeded"): 2}
    assert ledger.started_over == []


async def test_what_is_missing_is_named_with_the_versions_that_are_known(admin: Admin, make_source: Any) -> None:
    admin.execute(JOBS.format("public"))
    source = some(make_source)
    admin.execute("ALTER TABLE some_jobs DROP ended, DROP queue")
    error = await failure(source)
    assert error.reason is Reason.SCHEMA
    assert 'table "public"."some_jobs" has no column queue, ended' in str(error)
    assert "some is known in 2, 1, verified with 2.0, 1.0" in str(error)
    async with connect(source) as client:
        assert [f.level for f in await diagnose(source, client)] == ["problem"]
    admin.execute("DROP TABLE some_jobs")
    error = await failure(source)
    assert (error.reason, "set schema: to where some keeps its tables" in str(error)) == (Reason.SCHEMA, True)


async def test_a_missing_right_names_the_grant(admin: Admin, make_source: Any, make_ledger: Any) -> None:
    admin.execute(JOBS.format("public"))
    source = some(make_source)
    admin.execute("REVOKE ALL ON some_jobs FROM taskq_exporter")
    error = await failure(source)
    assert error.reason is Reason.PERMISSION
    async with connect(source) as client:
        with pytest.raises(AdapterError) as failed:
            await step(source, client, make_ledger())
        assert failed.value.reason is Reason.PERMISSION
        admin.execute(str(error).split("run: ")[1])
        await collect(source, client)
    async with connect(source) as client:
        await step(source, client, make_ledger())


async def test_hidden_rows_are_refused(admin: Admin, make_source: Any) -> None:
    admin.execute(JOBS.format("public"))
    source = some(make_source)
    admin.execute("ALTER TABLE some_jobs ENABLE ROW LEVEL SECURITY")
    error = await failure(source)
    assert (error.reason, "CREATE POLICY" in str(error)) == (Reason.PERMISSION, True)


async def test_another_schema(admin: Admin, make_source: Any) -> None:
    admin.execute('CREATE SCHEMA "My app"')
    admin.execute(JOBS.format('"My app"'))
    admin.execute("INSERT INTO \"My app\".some_jobs (queue, state) VALUES ('a', 'new')")
    (queue,) = (await collect_once(some(make_source, schema="My app"))).queues
    assert queue.tasks[State.READY] == 1


async def test_database_url_alone_finds_what_is_there(admin: Admin, postgres_dsn: str) -> None:
    async def found(url: str = postgres_dsn) -> dict[str, Any]:
        return {d.name: dict(d.options) for d in await detect({"DATABASE_URL": url})}

    assert await found() == {}
    for statement in (
        "CREATE SCHEMA one",
        "CREATE SCHEMA two",
        JOBS.format("one"),
        "CREATE TABLE two.some_jobs (id int)",
    ):
        admin.execute(statement)
    assert await found() == {"some": {"preset": "some", "schema": "one"}}
    admin.execute("DROP TABLE two.some_jobs")
    admin.execute(JOBS.format("two"))
    assert await found() == {f"some/{name}": {"preset": "some", "schema": name} for name in ("one", "two")}
    admin.execute(JOBS.format("public"))
    assert await found() == {"some": {"preset": "some"}}
    assert await found(postgres_dsn.replace("postgresql://", "postgresql+psycopg://")) == await found()
    assert await detect({"DATABASE_URL": "sqlite:///x.db"}) == []
    assert await detect({}) == []
    with pytest.raises(AdapterError):
        await detect({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"})
