"""What a real server tells of itself, to a superuser, to the role of grants, and to one without the right."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from taskq_exporter_sql import ROLE, STATISTICS, SqlClient, Told, broker, server_told

from taskq_exporter.api import Reason
from taskq_exporter.testing import Server, start_postgres

FAMILIES = (
    "taskq_broker_commands_total",
    "taskq_broker_connections",
    "taskq_broker_connections_limit",
    "taskq_broker_slow_statement_seconds",
)
PASSWORD = "of-the-test"


async def ask(client: SqlClient, **asked) -> Told:
    return await server_told(client, **({"roundtrip": 0.001, "left": 5.0} | asked))


async def anew(client: SqlClient) -> Told:
    client.of_server.clear()
    return await ask(client)


async def until(client: SqlClient, condition: Callable[[Told], object]) -> Told:
    """Statistics come some time after the transaction that they count."""
    async with asyncio.timeout(30):
        while not condition(told := await anew(client)):
            await asyncio.sleep(0.05)
    return told


def reasons(told: Told) -> dict[str, str]:
    return {c.family: c.reason for c in told.capabilities if c.family in FAMILIES}


def run(dsn: str, *statements: str) -> None:
    """On a connection whose end makes the server count them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def reader(admin: psycopg.Connection, dsn: str, *statements: str) -> Iterator[SqlClient]:
    """A client as the role that grants make."""
    for statement in (ROLE, *statements, f"ALTER ROLE taskq_exporter PASSWORD '{PASSWORD}'"):
        admin.execute(statement.encode())
    client = SqlClient(make_conninfo(dsn, user="taskq_exporter", password=PASSWORD), timeout=5)
    yield client
    client.drop()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    # asked at each collect
    for name in ("EVERY", "SLOW_EVERY"):
        monkeypatch.setattr(broker, name, 0.0)
    with start_postgres("-c", "shared_preload_libraries=pg_stat_statements", "-c", "max_connections=33") as server:
        yield server


async def test_connections_and_what_the_database_did(server: Server) -> None:
    with (
        psycopg.connect(server.url, autocommit=True) as admin,
        psycopg.connect(server.url) as open_transaction,
        reader(admin, server.url, STATISTICS) as client,
    ):
        run(server.url, "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i")
        before = (await until(client, lambda told: told.stats.commands["insert"] >= 100)).stats.commands
        run(server.url, "UPDATE t SET i = 0 WHERE i <= 7", "DELETE FROM t WHERE i = 8", "BEGIN", "ROLLBACK")
        open_transaction.execute("SELECT 1")
        told = await until(client, lambda told: told.stats.commands["rollback"] > before["rollback"])
    after = told.stats.commands
    assert after.keys() == before.keys() == {"commit", "rollback", "insert", "update", "delete", "fetch"}
    assert {kind: after[kind] - before[kind] for kind in ("insert", "update", "delete", "rollback")} == {
        "insert": 0,
        "update": 7,
        "delete": 1,
        "rollback": 1,
    }
    assert told.stats.connections_limit == 33
    # the exporter's own asks
    assert told.stats.connections == {"active": 1, "idle": 1, "idle in transaction": 1}
    assert told.stats.roundtrip_seconds == 0.001
    assert told.stats.memory_bytes is None
    assert reasons(told) == dict.fromkeys(FAMILIES, "none") | {"taskq_broker_slow_statement_seconds": "backend"}
    assert not told.problems
    assert told.commands > 0


async def test_slow_statements(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA ext")
        try:
            admin.execute("CREATE EXTENSION pg_stat_statements SCHEMA ext")
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this PostgreSQL comes without pg_stat_statements")
    with psycopg.connect(server.url, autocommit=True) as admin, reader(admin, server.url, STATISTICS) as client:
        assert reasons(await ask(client))[FAMILIES[3]] == "permission"
        admin.execute("GRANT USAGE ON SCHEMA ext TO taskq_exporter")
        admin.execute("SELECT pg_sleep(0.9)")
        first = await ask(client)
        assert (reasons(first)[FAMILIES[3]], first.problems) == ("none", ())
        assert first.stats.slow_statement_seconds is None  # since when, is not known
        assert (await ask(client)).stats.slow_statement_seconds == 0
        for seconds in (0.2, 0.4):
            admin.execute(f"SELECT pg_sleep({seconds})".encode())
        slow = (await ask(client)).stats.slow_statement_seconds
        assert slow is not None
        assert 0.3 <= slow < 0.9  # a mean, and not of what was before
        admin.execute("SELECT ext.pg_stat_statements_reset()")
        admin.execute("SELECT pg_sleep(0.15)")
        slow = (await ask(client)).stats.slow_statement_seconds
        assert slow is not None
        assert slow >= 0.15  # begun anew
        admin.execute("REVOKE EXECUTE ON FUNCTION ext.pg_stat_statements FROM PUBLIC")
        refused = await ask(client)
    assert reasons(refused) == dict.fromkeys(FAMILIES, "none") | {FAMILIES[3]: "permission"}
    assert [(p.reason, p.part) for p in refused.problems] == [(Reason.PERMISSION, "server")]
    assert refused.stats.connections_limit == 33


async def test_without_the_right_the_states_are_not_known(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as admin, reader(admin, server.url) as client:
        told = await ask(client)
    assert reasons(told) == dict.fromkeys(FAMILIES, "none") | {FAMILIES[1]: "permission", FAMILIES[3]: "backend"}
    assert not told.problems  # it is a choice
    assert not told.stats.connections
    assert told.stats.connections_limit == 33
    assert told.stats.commands["commit"] > 0


async def test_it_is_asked_for_seldom_and_never_holds_a_collect_up(postgres_dsn: str) -> None:
    client = SqlClient(postgres_dsn, timeout=5)
    assert (await ask(client, left=0.01)).commands == 0  # no time left
    assert (await ask(client)).commands > 0
    again = await ask(client)
    assert again.commands == 0
    assert again.stats.connections_limit
    client.of_server.clear()
    nothing = await ask(client, disabled=frozenset(FAMILIES))
    assert (nothing.commands, {*reasons(nothing).values()}) == (0, {"option"})
    client.drop()
    lost = SqlClient(re.sub(r":\d+/", ":1/", postgres_dsn), timeout=5)
    told = await ask(lost)
    assert [(p.reason, p.part) for p in told.problems] == [(Reason.CONNECT, "server")]
