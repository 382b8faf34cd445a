"""What can happen to a database: each is a reason on the page, no page hangs, and what ended meanwhile is counted."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import taskq_exporter_sql.guard
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from taskq_exporter_postgres.adapter import grants
from taskq_exporter_postgres.options import PostgresOptions

from taskq_exporter.api import Reason, Source
from taskq_exporter.testing import Server, Watch, start_postgres, watch

pytestmark = pytest.mark.newest

Admin = psycopg.Connection[Any]
Disturb = Callable[[Server, Admin], Iterator[None]]
TIMEOUT = 2.0
SLACK = 1.0
FINISHED = "taskq_tasks_finished_total"
DONE = """
INSERT INTO jobs (queue, kind, state, started_at, finished_at)
SELECT 'a', 'mail', 'done', now(), clock_timestamp() FROM generate_series(1, %s)
"""
#: A statement of the user's own that takes as long as the row says, and a table that is large for the guard.
MORE = """
CREATE TABLE slowness (seconds float8);
INSERT INTO slowness VALUES (0);
ALTER TABLE jobs SET (fillfactor = 10);
INSERT INTO jobs (queue, state, finished_at) SELECT 'a', 'done', now() - interval '1 d' FROM generate_series(1, 2000);
INSERT INTO jobs (queue) VALUES ('a');
ANALYZE jobs;
"""
SLOW = "SELECT 'w1' AS worker, (SELECT pg_sleep(seconds)) IS NOT NULL AS up FROM public.slowness"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgres("-c", "max_connections=12", "-c", "superuser_reserved_connections=3") as server:
        yield server


@pytest.fixture
def described(server: Server, table: dict[str, Any], jobs_ddl: str) -> Iterator[dict[str, Any]]:
    """A source over the table, as the role of `grants`."""
    options = {"table": table, "sql": {"workers": SLOW}, "poll_interval": "100ms"}
    url = make_conninfo(server.url, user="taskq_exporter", password="secret")
    source = Source(name="s", adapter="postgres", url=lambda: url, options=PostgresOptions.model_validate(options))
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(jobs_ddl.encode())
        admin.execute(MORE)
        admin.execute(grants(source).encode())
        admin.execute("GRANT SELECT ON slowness TO taskq_exporter; ALTER ROLE taskq_exporter PASSWORD 'secret'")
    yield {"adapter": "postgres", "url": url, "timeout": TIMEOUT, **options}
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("DROP TABLE jobs, workers, slowness")


def disconnect(admin: Admin) -> None:
    admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'taskq_exporter'")


def changed(change: str, back: str) -> Disturb:
    """A change of the database, and what undoes it."""

    def disturb(_: Server, admin: Admin) -> Iterator[None]:
        admin.execute(change.encode())
        yield
        admin.execute(back.encode())

    return disturb


def restarted(server: Server, _: Admin) -> Iterator[None]:
    server.stop()
    yield
    server.start()


def locked(server: Server, _: Admin) -> Iterator[None]:
    """A migration that takes its time."""
    with psycopg.connect(server.url) as migration:
        migration.execute("ALTER TABLE jobs ADD extra text")
        yield
        migration.rollback()


def out_of_connections(server: Server, admin: Admin) -> Iterator[None]:
    """Others have all that are not the superuser's."""
    admin.execute("CREATE ROLE hungry LOGIN PASSWORD 'hungry'")
    hungry = make_conninfo(server.url, user="hungry", password="hungry")
    mine = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'taskq_exporter'"
    with ExitStack() as stack:
        while admin.execute(mine).fetchone() != (0,) or not full(stack, hungry):
            disconnect(admin)  # it may be faster than the others
        yield
    admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'hungry'")
    admin.execute("DROP ROLE hungry")


def full(stack: ExitStack, url: str) -> bool:
    """Whether the server takes no connection more; one that it took is kept."""
    try:
        stack.enter_context(psycopg.connect(url))
    except psycopg.OperationalError as error:
        return "connection slots" in str(error) or "too many" in str(error)
    return False


#: Its reason, and others that may be seen in the moment in which a server starts, stops or closes connections.
DISTURBANCES: dict[str, tuple[Disturb, Reason, set[Reason]]] = {
    "restarted": (restarted, Reason.CONNECT, {Reason.BUSY}),
    "locked by DDL": (locked, Reason.BUSY, set()),
    "out of connections": (out_of_connections, Reason.BUSY, {Reason.CONNECT}),
    "a column missing": (
        changed("ALTER TABLE jobs RENAME kind TO sort", "ALTER TABLE jobs RENAME sort TO kind"),
        Reason.SCHEMA,
        set(),
    ),
    "a right missing": (
        changed("REVOKE SELECT (state) ON jobs FROM taskq_exporter", "GRANT SELECT (state) ON jobs TO taskq_exporter"),
        Reason.PERMISSION,
        set(),
    ),
    "statement timeout": (
        changed("UPDATE slowness SET seconds = 60", "UPDATE slowness SET seconds = 0"),
        Reason.TIMEOUT,
        set(),
    ),
}


def counted(server: Server) -> int:
    """Jobs that ended today."""
    with psycopg.connect(server.url) as connection:
        query = "SELECT count(*) FROM jobs WHERE finished_at > now() - interval '1 h'"
        (n,) = connection.execute(query).fetchone() or (0,)
    return int(n)


async def in_time(watched: Watch) -> Any:
    """A page, which must come in time."""
    begun = time.perf_counter()
    page = await watched.page()
    assert time.perf_counter() - begun < TIMEOUT + SLACK
    return page


async def reasons_of(watched: Watch) -> set[str]:
    """What has gone wrong so far, as the page says."""
    page = await in_time(watched)
    return {dict(labels)["reason"] for labels, n in page.values("taskq_source_errors_total").items() if n}


@pytest.mark.parametrize("name", list(DISTURBANCES))
async def test_each_disturbance_has_its_reason_and_passes(server: Server, described: dict[str, Any], name: str) -> None:
    disturb, reason, passing = DISTURBANCES[name]
    with psycopg.connect(server.url, autocommit=True) as admin:
        async with watch(described, follow=True) as watched:
            await watched.following()
            await watched.until(lambda page: page.value("taskq_source_up") == 1, "the source is up")
            assert await reasons_of(watched) == set()
            admin.execute(DONE, [5])
            with contextmanager(disturb)(server, admin):
                for _ in range(3):
                    page = await in_time(watched)
                    assert page.value("taskq_source_up") == 0
                    assert not page.values("taskq_tasks")
                if name != "statement timeout":  # of a statement that is not the follower's
                    await watched.until(lambda _: not watched.runner.following, "the follower has met it too")
                assert await reasons_of(watched) - passing == {reason}
            await watched.until(lambda page: page.value("taskq_source_up") == 1, "the source is up again")
            with psycopg.connect(server.url, autocommit=True) as application:
                application.execute(DONE, [7])
            truth = counted(server)
            assert truth == 12
            page = await watched.until(lambda page: page.total(FINISHED) >= truth, "what ended meanwhile is counted")
            assert page.total(FINISHED) == truth
            assert await reasons_of(watched) - passing == {reason}


async def test_a_refused_plan_has_its_reason_and_the_rest_goes_on(
    server: Server, described: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskq_exporter_sql.guard, "LARGE_PAGES", 50)
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("DROP INDEX jobs_active")
        async with watch(described, follow=True) as watched:
            await watched.following()
            page = await in_time(watched)
            assert (page.value("taskq_source_up"), page.value("taskq_source_problems")) == (1, 1)
            assert page.value("taskq_tasks", queue="a", state="ready") == 1
            assert not page.values("taskq_tasks", state="running")
            assert await reasons_of(watched) == {Reason.COST}
            admin.execute("CREATE INDEX jobs_active ON jobs (queue, started_at) WHERE state = 'active'")
            page = await watched.until(lambda page: page.value("taskq_source_problems") == 0, "the plan is good")
            assert page.value("taskq_tasks", queue="a", state="running") == 0
            admin.execute(DONE, [3])
            await watched.until(lambda page: page.total(FINISHED) == 3, "the follower goes on")


def standby_of(primary: Server, standby: Server) -> None:
    """Make one server a streaming standby of the other, from a cold copy."""
    places = []
    for server in (primary, standby):
        with psycopg.connect(server.url) as connection:
            (place,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        places.append(Path(place))
    data, copy = places
    if not data.is_dir():
        pytest.skip("the data of a server in a container cannot be copied")
    hba = data / "pg_hba.conf"
    hba.write_text("host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\nlocal all all trust\n")
    primary.stop()
    standby.stop()
    shutil.rmtree(copy)
    subprocess.run(["cp", "-a", str(data), str(copy)], check=True)  # with their owner
    (copy / "postmaster.pid").unlink(missing_ok=True)
    (copy / "standby.signal").touch()
    parts = conninfo_to_dict(primary.url)
    connection_info = f"host=127.0.0.1 port={parts['port']} user=postgres"
    with (copy / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{connection_info}'\n")
    primary.start()
    standby.start()


async def test_failed_over_to_a_standby(table: dict[str, Any], jobs_ddl: str) -> None:
    """One source that wants a server which can be written to, and one that takes any."""
    with start_postgres() as primary, start_postgres() as standby:
        with psycopg.connect(primary.url, autocommit=True) as admin:
            admin.execute(jobs_ddl.encode())
        standby_of(primary, standby)
        ports = [conninfo_to_dict(server.url)["port"] for server in (primary, standby)]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        described = {"adapter": "postgres", "timeout": TIMEOUT, "table": table, "poll_interval": "100ms"}
        urls = [f"postgresql://postgres@{hosts}/postgres?target_session_attrs={want}" for want in ("read-write", "any")]
        async with (
            watch({**described, "url": urls[0]}, follow=True) as primarys,
            watch({**described, "url": urls[1]}, follow=True) as anys,
        ):
            for watched in (primarys, anys):
                await watched.following()
            with psycopg.connect(primary.url, autocommit=True) as application:
                application.execute(DONE, [20])
                (written,) = application.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
                with psycopg.connect(standby.url, autocommit=True) as replica:
                    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
                    while (replica.execute(replayed, [written]).fetchone() or (False,))[0] is not True:
                        time.sleep(0.02)
            primary.stop()
            for _ in range(3):
                page = await in_time(primarys)
                assert page.value("taskq_source_up") == 0
            assert await reasons_of(primarys) - {Reason.BUSY} == {Reason.CONNECT}
            await anys.until(lambda page: page.value("taskq_source_up") == 1, "the standby is read")
            with psycopg.connect(standby.url, autocommit=True) as application:
                application.execute("SELECT pg_promote()")
                application.execute(DONE, [30])
                assert counted(standby) == 50
            for watched in (primarys, anys):
                await watched.until(lambda page: page.value("taskq_source_up") == 1, "the source is up again")
                page = await watched.until(lambda page: page.total(FINISHED) >= 50, "what ended is counted")
                assert page.total(FINISHED) == 50
                assert await reasons_of(watched) <= {Reason.CONNECT, Reason.BUSY}
