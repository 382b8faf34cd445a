"""The client against a real server: deadlines, reasons, lost connections, and what never appears in a message."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from taskq_exporter_sql import SqlClient, connect, read_only

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter.testing import Server

SECRET = "hunter2-of-the-test"


def source_of(dsn: str, timeout: float = 5.0) -> Source:
    return Source(name="s", adapter="postgres", url=lambda: dsn, timeout=timeout)


async def ask(client: SqlClient, query: str, timeout: float = 5.0) -> list[tuple[Any, ...]]:
    async with read_only(client, timeout=timeout) as transaction:
        return await transaction.fetch("asked", sql.SQL(query))  # type: ignore[arg-type]


async def naps(client: SqlClient) -> None:
    async with read_only(client, timeout=1) as transaction:
        for _ in range(9):
            await transaction.fetch("nap", sql.SQL("SELECT pg_sleep(0.4)"))


async def refused(asking: Awaitable[Any]) -> AdapterError:
    with pytest.raises(AdapterError) as failed:
        await asking
    return failed.value


async def open_and_ask(dsn: str, timeout: float = 5.0) -> list[tuple[Any, ...]]:
    async with connect(source_of(dsn, timeout)) as client:
        return await ask(client, "SELECT 1", timeout)


async def test_a_transaction_and_its_settings(postgres_dsn: str) -> None:
    async with connect(source_of(postgres_dsn)) as client:
        async with read_only(client, timeout=2, lock_timeout=0.3) as transaction:
            names = "statement_timeout", "lock_timeout", "jit", "max_parallel_workers_per_gather", "search_path"
            shown = await transaction.fetch(
                "settings",
                sql.SQL("SELECT {}, {}").format(
                    sql.SQL(", ").join(sql.SQL("current_setting({})").format(sql.Literal(name)) for name in names),
                    sql.SQL("current_setting('application_name'), current_setting('transaction_read_only')"),
                ),
            )
            assert shown == [("1800ms", "300ms", "off", "0", "pg_catalog", "taskq-exporter", "on")]
            assert list(transaction.seconds) == ["settings"]
        assert transaction.commands == client.commands_sent == 3
        # nothing stays in the session, which a pooler would give to somebody else
        with psycopg.connect(postgres_dsn) as plain:
            default = plain.execute("SHOW search_path").fetchone()
        assert client._connection is not None
        cursor = await client._connection.execute("SHOW search_path")
        assert await cursor.fetchone() == default
        assert client.server_version[0].isdigit()


async def test_statements_see_one_moment(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as writer:
        writer.execute("CREATE TABLE t (n int)")
        async with connect(source_of(postgres_dsn)) as client, read_only(client, timeout=5) as transaction:
            count = sql.SQL("SELECT count(*) FROM public.t")
            assert await transaction.fetch("first", count) == [(0,)]
            writer.execute("INSERT INTO t VALUES (1)")
            assert await transaction.fetch("second", count) == [(0,)]


@pytest.mark.parametrize(
    ("query", "reason", "part"),
    [
        ("SELECT nix FROM pg_catalog.pg_class", Reason.SCHEMA, 'column "nix" does not exist'),
        ("SELECT 1 FROM public.nix", Reason.SCHEMA, 'relation "public.nix" does not exist'),
        ("SELECT 1; SELECT 2", Reason.SCHEMA, "multiple commands"),
        ("CREATE TABLE public.x ()", Reason.PROTOCOL, "25006"),
        ("SELECT pg_sleep(9)", Reason.TIMEOUT, "too long"),
        ("SELECT now() AT TIME ZONE 'Mars/Base'", Reason.SCHEMA, "Mars/Base"),
        ("SELECT 1/0", Reason.SCHEMA, "a value that its column"),
    ],
)
async def test_reasons(postgres_dsn: str, query: str, reason: Reason, part: str) -> None:
    async with connect(source_of(postgres_dsn)) as client:
        error = await refused(ask(client, query, timeout=0.5))
        assert (error.reason, part in str(error)) == (reason, True), error
        assert await ask(client, "SELECT 1") == [(1,)]


async def test_a_missing_right(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (n int)")
        admin.execute(f"CREATE ROLE nobody_much LOGIN PASSWORD '{SECRET}'")
        async with connect(source_of(make_conninfo(postgres_dsn, user="nobody_much", password=SECRET))) as client:
            error = await refused(ask(client, "SELECT n FROM public.t"))
    assert (error.reason, "grants" in str(error)) == (Reason.PERMISSION, True)


async def test_a_lock_is_not_waited_for(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as migration:
        migration.execute("CREATE TABLE t (n int)")
        migration.commit()
        migration.execute("LOCK TABLE t")
        started = time.monotonic()
        async with connect(source_of(postgres_dsn)) as client:
            error = await refused(ask(client, "SELECT n FROM public.t"))
    assert error.reason is Reason.BUSY
    assert time.monotonic() - started < 2


async def test_the_timeout_is_of_the_whole_transaction(postgres_dsn: str) -> None:
    """The server ends the statement that is one too many, so that nobody's query goes on."""
    async with connect(source_of(postgres_dsn)) as client:
        started = time.monotonic()
        error = await refused(naps(client))
        assert error.reason is Reason.TIMEOUT
        assert time.monotonic() - started < 1
        assert "within" not in str(error), "the server gave up, not we"


async def test_cancelling_leaves_a_client_that_works(postgres_dsn: str) -> None:
    async with connect(source_of(postgres_dsn)) as client:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(client, "SELECT pg_sleep(3)", timeout=4)
        assert time.monotonic() - started < 1
        assert await ask(client, "SELECT 1") == [(1,)]
        many = [asyncio.create_task(ask(client, f"SELECT {n}")) for n in range(20)]
        many[3].cancel()
        done = await asyncio.gather(*many, return_exceptions=True)
        assert [rows for rows in done if isinstance(rows, list)] == [[(n,)] for n in range(20) if n != 3]


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    """A server that accepts and says nothing learns at once that the client is gone, though its error is kept."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        while await reader.read(1000):
            pass
        gone.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = SqlClient(f"postgresql://nobody@127.0.0.1:{port}/none", timeout=30)
        opening = asyncio.create_task(client.open())
        await came.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError) as kept:
            await opening
        async with asyncio.timeout(30):
            await gone.wait()
    assert kept.tb


async def test_a_connection_that_the_server_closed_is_made_anew(postgres_dsn: str) -> None:
    async with connect(source_of(postgres_dsn)) as client:
        ((pid,),) = await ask(client, "SELECT pg_backend_pid()")
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        ((new,),) = await ask(client, "SELECT pg_backend_pid()")
        assert new != pid


async def test_stopped_frozen_and_back(postgres_own: Server) -> None:
    async with connect(source_of(postgres_own.url, 1.0)) as client:
        assert await ask(client, "SELECT 1", 1.0) == [(1,)]
        postgres_own.freeze()
        try:
            started = time.monotonic()
            assert (await refused(ask(client, "SELECT 1", 1.0))).reason is Reason.TIMEOUT
            assert (await refused(open_and_ask(postgres_own.url, 1.0))).reason is Reason.TIMEOUT
            assert time.monotonic() - started < 3
        finally:
            postgres_own.thaw()
        assert await ask(client, "SELECT 1", 1.0) == [(1,)]
        postgres_own.stop()
        assert (await refused(ask(client, "SELECT 1", 1.0))).reason is Reason.CONNECT
        assert (await refused(open_and_ask(postgres_own.url, 1.0))).reason is Reason.CONNECT
        postgres_own.start()
        assert await ask(client, "SELECT 1", 1.0) == [(1,)]


async def test_out_of_connections(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE few LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 1")
        dsn = make_conninfo(postgres_dsn, user="few", password=SECRET)
        async with connect(source_of(dsn)):
            error = await refused(open_and_ask(dsn))
    assert error.reason is Reason.BUSY


Change = Callable[[str], str]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda dsn: make_conninfo(dsn, user="nobody_here", password=SECRET), Reason.AUTH),
        (lambda dsn: make_conninfo(dsn, user="some_role", password=f"wrong-{SECRET}"), Reason.AUTH),
        (lambda dsn: make_conninfo(dsn, dbname="no_such"), Reason.CONNECT),
        (lambda dsn: make_conninfo(dsn, port=1, password=SECRET), Reason.CONNECT),
        (lambda dsn: make_conninfo(dsn, host="no-such-host.invalid", password=SECRET), Reason.CONNECT),
        (lambda dsn: make_conninfo(dsn, host="/no/such/directory", password=SECRET), Reason.CONNECT),
        (lambda _: f"postgresql://u:{SECRET}%zz@h/d", Reason.CONNECT),
        (lambda _: f"mysql://u:{SECRET}@h/d", Reason.CONNECT),
        (lambda _: f"postgresql://u:p@h/d?{SECRET}=1", Reason.CONNECT),
        (lambda _: f"postgresql://u:{SECRET}/with/slash@h:5432/d", Reason.CONNECT),
    ],
)
async def test_no_secret_in_any_error(postgres_dsn: str, change: Change, reason: Reason) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE some_role LOGIN PASSWORD '{SECRET}'")
    dsn = change(postgres_dsn)
    error = await refused(open_and_ask(dsn))
    assert error.reason is reason
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)
    assert SECRET not in told
    assert dsn not in told
    assert "nobody_here" not in str(error)


async def test_urls_as_other_tools_write_them(postgres_dsn: str) -> None:
    sqlalchemy = postgres_dsn.replace("postgresql://", "postgresql+asyncpg://")
    assert sqlalchemy != postgres_dsn
    for dsn in (sqlalchemy, postgres_dsn.replace("postgresql://", "postgres://"), make_conninfo(postgres_dsn)):
        assert await open_and_ask(dsn) == [(1,)]


async def test_prepared_statements_that_a_pooler_takes_away_cost_one_look(postgres_dsn: str) -> None:
    async with connect(source_of(postgres_dsn)) as client:

        async def again() -> list[tuple[Any, ...]]:
            async with read_only(client, timeout=5) as transaction:
                return await transaction.fetch("asked", sql.SQL("SELECT 1"), again=True)

        async def pooled() -> None:
            connection, _ = await client.open()
            connection.pgconn.exec_(b"DEALLOCATE ALL")  # psycopg does not see it, as it sees no pooler's

        assert await again() == [(1,)]
        await pooled()
        failed = await refused(again())
        assert (failed.reason, "none is prepared from now on" in str(failed)) == (Reason.BUSY, True)
        assert await again() == [(1,)]
        await pooled()
        assert await again() == [(1,)]
