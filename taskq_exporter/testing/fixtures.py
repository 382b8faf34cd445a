"""A pytest plugin with the servers as fixtures: `pytest_plugins = ["taskq_exporter.testing.fixtures"]`.

TASKQ_TEST_REDIS_URL, TASKQ_TEST_POSTGRES_URL and TASKQ_TEST_RABBITMQ_URL name servers to share instead of private
ones: the Redis database is flushed, and databases, roles, virtual hosts and users are made and dropped there.
RabbitMQ's management API is expected on port 15672, else named by TASKQ_TEST_RABBITMQ_MANAGEMENT_URL. What stops a
server always uses a private one.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from . import processes
from .processes import ForeignServer, Server
from .rabbitmq import manage, start_rabbitmq, virtual_host
from .sentinel import SentinelSetup, start_redis_sentinel
from .servers import start_postgres, start_redis
from .shared import shared_rabbitmq
from .tls import Certificates, make_certificates

REDIS_VARIABLE = "TASKQ_TEST_REDIS_URL"
POSTGRES_VARIABLE = "TASKQ_TEST_POSTGRES_URL"
RABBITMQ_VARIABLE = "TASKQ_TEST_RABBITMQ_URL"
MANAGEMENT_VARIABLE = "TASKQ_TEST_RABBITMQ_MANAGEMENT_URL"


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


@pytest.fixture
def redis_sentinel() -> Iterator[SentinelSetup]:
    """A Redis master, its replica and a Sentinel of this test alone."""
    with start_redis_sentinel() as setup:
        yield setup


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for `start_redis(tls=…)` and `start_rabbitmq(tls=…)`."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def rabbitmq_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The RabbitMQ node that all tests of the run share: not to be stopped."""
    if url := os.environ.get(RABBITMQ_VARIABLE):
        yield _foreign_rabbitmq(url)
    elif "PYTEST_XDIST_WORKER" in os.environ:
        with shared_rabbitmq(tmp_path_factory.getbasetemp().parent / "rabbitmq") as server:
            yield server
    else:
        with start_rabbitmq() as server:
            yield server


@pytest.fixture
def rabbitmq_url(rabbitmq_shared: Server) -> Iterator[str]:
    """An administrator's URL of a fresh virtual host, on a RabbitMQ node that all tests of the run share.

    Users with rights in the virtual host are deleted with it.
    """
    with virtual_host(rabbitmq_shared) as url:
        yield url


@pytest.fixture
def rabbitmq_management(rabbitmq_shared: Server) -> str:
    """The address of that node's management API, with the administrator's credentials."""
    return rabbitmq_shared.management


@pytest.fixture
def rabbitmq_own() -> Iterator[Server]:
    """A RabbitMQ node of this test alone, which it may stop and freeze."""
    with start_rabbitmq() as server:
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


def _foreign_rabbitmq(url: str) -> Server:
    parts = urlsplit(url)
    default = f"http://{parts.username or 'guest'}:{parts.password or 'guest'}@{parts.hostname}:15672"
    management = os.environ.get(MANAGEMENT_VARIABLE) or default
    version = manage(management, "GET", "/api/overview")["rabbitmq_version"]
    return ForeignServer(name="rabbitmq", url=url, kind="environment", version=version, management=management)


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
