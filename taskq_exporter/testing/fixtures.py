"""A pytest plugin with the servers as fixtures: `pytest_plugins = ["taskq_exporter.testing.fixtures"]`.

TASKQ_TEST_REDIS_URL and TASKQ_TEST_POSTGRES_URL name servers to share instead of private ones: the Redis database
is flushed, and databases and roles are made and dropped there. What stops a server always uses a private one.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from . import processes
from .processes import ForeignServer, Server
from .servers import start_postgres, start_redis

REDIS_VARIABLE = "TASKQ_TEST_REDIS_URL"
POSTGRES_VARIABLE = "TASKQ_TEST_POSTGRES_URL"


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[Server]:
    with _shared_redis() as server:
        yield server


@pytest.fixture
def redis_url(_redis_server: Server) -> str:
    """The URL of an empty database, on a Redis server that the tests of this process share."""
    import redis

    with redis.Redis.from_url(_redis_server.url) as client:
        if _redis_server.kind == "environment":
            client.flushdb()
        else:
            client.flushall()
            client.script_flush()
            for user in client.acl_users():
                if user != "default":
                    client.acl_deluser(user)
    return _redis_server.url


@pytest.fixture
def redis_own() -> Iterator[Server]:
    """A Redis server of this test alone, which it may stop and freeze."""
    with start_redis() as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Server]:
    with _shared_postgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(_postgres_server: Server) -> Iterator[str]:
    """The superuser's DSN of a fresh database, on a PostgreSQL server that the tests of this process share.

    Roles that the test creates are dropped after it.
    """
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict

    url = _postgres_server.url
    name = f"taskq_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as admin:
        # Roles belong to the whole server: on a shared one, tests of other processes wait here.
        admin.execute("SELECT pg_advisory_lock(hashtext('taskq_exporter tests'))")
        before = {row[0] for row in admin.execute("SELECT rolname FROM pg_roles")}
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            path = conninfo_to_dict(url).get("dbname", "")
            yield re.sub(rf"/{re.escape(str(path))}(?=$|\?)", f"/{name}", url)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            for (role,) in admin.execute("SELECT rolname FROM pg_roles").fetchall():
                if role not in before:
                    admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def postgres_own() -> Iterator[Server]:
    """A PostgreSQL server of this test alone, which it may stop and freeze."""
    with start_postgres() as server:
        yield server


def _shared_redis() -> Server:
    url = os.environ.get(REDIS_VARIABLE)
    if not url:
        return start_redis()
    import redis

    # Each process of pytest-xdist flushes a database of its own.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    base = re.fullmatch(r"(redis[s]?://[^/?]+)(?:/(\d*))?(\?.*)?", url)
    if base is None:
        raise pytest.UsageError(f"{REDIS_VARIABLE} must look like redis://host:port/database")
    url = f"{base[1]}/{int(base[2] or 0) + worker}{base[3] or ''}"
    with redis.Redis.from_url(url) as client:
        version = str(client.info("server")["redis_version"])
    return ForeignServer(name="redis", url=url, kind="environment", version=version)


def _shared_postgres() -> Server:
    url = os.environ.get(POSTGRES_VARIABLE)
    if not url:
        return start_postgres()
    import psycopg

    with psycopg.connect(url) as connection:
        version = connection.info.parameter_status("server_version") or "unknown"
    return ForeignServer(name="postgres", url=url, kind="environment", version=version)


# --- the report says which kind of server served ----------------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller of pytest-xdist what served in this worker."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["taskq_servers"] = {name: sorted(kinds) for name, kinds in processes.served.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what served in a worker of pytest-xdist."""
    for name, kinds in getattr(node, "workeroutput", {}).get("taskq_servers", {}).items():
        processes.served.setdefault(name, set()).update(kinds)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per kind of server."""
    for name, kinds in sorted(processes.served.items()):
        terminalreporter.write_line(f"servers: {name}: {'; '.join(sorted(kinds))}")
