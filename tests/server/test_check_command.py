"""`check` as a user meets it: rights and an index that are missing and then given, a terminal, a running exporter."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import psycopg
import pytest
import redis

from taskq_exporter.testing.child import Child, clean_environment
from taskq_exporter.testing.watch import config_file

COMMAND = [sys.executable, "-m", "taskq_exporter"]
SECRET = "hunter2-is-long"


def check(*flags: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "check", *map(str, flags)]
    env = {**clean_environment(), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=env)


def test_a_right_that_is_missing_and_the_line_that_gives_it(redis_url: str, tmp_path: Path) -> None:
    url = redis_url.replace("redis://", f"redis://taskq_exporter:{SECRET}@")
    file = config_file(tmp_path, {"name": "web", "adapter": "django_tasks_redis", "url": url})
    flags = (f"--config.file={file}", "--seconds", "0")
    with redis.Redis.from_url(redis_url) as client:
        client.xadd("django_tasks:default:emails:stream:normal", {"x": "y"})
        rights = ["~django_tasks:*", "+time", "+exists", "+scan", "+xinfo|stream", "+hello", "+zcount"]
        client.execute_command("ACL", "SETUSER", "taskq_exporter", "on", f">{SECRET}", *rights)
        lacks = check(*flags)
        assert lacks.returncode == 1, lacks.stderr
        assert lacks.stderr == ""
        assert "web: partial; django_tasks_redis, redis" in lacks.stdout
        assert re.search(r"problem +cannot read groups: permission: ", lacks.stdout)
        assert SECRET not in lacks.stdout
        assert "\x1b" not in lacks.stdout
        (line,) = re.findall(r"^ +(ACL SETUSER .*)$", lacks.stdout, re.MULTILINE)
        client.execute_command(*shlex.split(line.replace("PASSWORD", SECRET)))
    given = check(*flags)
    assert "cannot read" not in given.stdout, given.stdout
    assert "ACL SETUSER" not in given.stdout
    assert " queues   1: emails (" in given.stdout
    assert given.returncode == 0


def test_an_index_that_is_missing_and_the_statement_that_makes_it(postgres_dsn: str, tmp_path: Path) -> None:
    columns = {"id": "id", "queue": "queue", "state": "state"}
    table = {"name": "public.jobs", "columns": columns, "states": {"ready": ["queued"]}}
    file = config_file(tmp_path, {"name": "jobs", "adapter": "postgres", "url": postgres_dsn, "table": table})
    flags = (f"--config.file={file}", "--seconds=0")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.jobs (id bigint PRIMARY KEY, queue text, state text)")
        connection.execute("INSERT INTO public.jobs SELECT i, 'a', 'done' FROM generate_series(1, 20000) i")
        connection.execute("ANALYZE public.jobs")
        told = check(*flags, "--format=json")
        (source,) = json.loads(told.stdout)["sources"]
        advice = [finding["advice"] for finding in source["findings"] if "no index" in finding["text"]]
        assert len(advice) == 1, source["findings"]
        assert advice[0] in " ".join(check(*flags).stdout.split())
        connection.execute(advice[0])
    told = check(*flags, "--format=json")
    assert told.returncode == 0, told.stdout
    (source,) = json.loads(told.stdout)["sources"]
    assert not any("no index" in finding["text"] for finding in source["findings"])
    lacks = {c["family"]: c["advice"] for c in source["capabilities"] if c["reason"] == "option"}
    assert lacks["taskq_task_longest_run_seconds"] == "name table.columns.task and started_at"
    assert all(lacks.values())


def test_only_what_is_named(redis_url: str, tmp_path: Path) -> None:
    here = {"name": "here", "adapter": "django_tasks_redis", "url": redis_url}
    gone = {"name": "gone", "adapter": "celery", "url": f"redis://:{SECRET}@127.0.0.1:1/0"}
    file = config_file(tmp_path, here, gone)
    both = check(f"--config.file={file}", "--seconds=0")
    assert both.returncode == 1
    assert "gone: down (connect); celery" in both.stdout
    assert f"{file}:" in "".join(both.stdout.split())  # where its URL stands
    assert both.stdout.endswith("2 sources, with problems: gone\n")
    assert SECRET not in both.stdout + both.stderr
    one = check(f"--config.file={file}", "--seconds=0", "--source=here")
    assert one.returncode == 0, one.stdout
    assert "gone" not in one.stdout
    none = check(f"--config.file={file}", "--source=her")
    assert (none.returncode, none.stderr) == (1, "--source: there is no source 'her'; did you mean 'here'?\n")
    for flags in (["--url=http://localhost:1", f"--config.file={file}"], ["--url=localhost:9540"]):
        refused = check(*flags)
        assert refused.returncode == 1
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_terminal_sees_what_is_done(redis_url: str, tmp_path: Path, no_colour: str) -> None:
    file = config_file(tmp_path, {"name": "web", "adapter": "django_tasks_redis", "url": redis_url})
    command = [*COMMAND, "check", f"--config.file={file}", "--seconds=1"]
    ours, theirs = pty.openpty()
    environment = {**clean_environment(), "TERM": "xterm", "NO_COLOR": no_colour}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    killer = threading.Timer(60, process.kill)
    killer.start()
    while chunk := _read(ours):
        said += chunk
    killer.cancel()
    os.close(ours)
    assert process.wait() == 0, said
    text = said.decode()
    assert "\r\x1b[Klistening to web: 1 s" in text
    assert "\r\x1b[Kexamining web\r\x1b[K" in text
    assert ("\x1b[32mup\x1b[m" in text) == (not no_colour)
    assert "up; django_tasks_redis" in re.sub("\x1b\\[[0-9]*m", "", text)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its other end is closed
        return b""


@contextmanager
def exporter(tmp_path: Path, file: Path) -> Iterator[str]:
    """The URL of a running one that wants a password."""
    hashed = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{night: '{hashed}'}}\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    directory = tmp_path / "exporter"
    directory.mkdir()
    flags = [f"--config.file={file}", f"--web.config.file={web}", f"--web.listen-address=127.0.0.1:{port}"]
    command = [*COMMAND, *flags]
    with Child(command, directory=directory, ready=lambda: _listens(port)):
        yield f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_running_exporter_with_a_password(redis_url: str, tmp_path: Path) -> None:
    file = config_file(tmp_path, {"name": "web", "adapter": "django_tasks_redis", "url": redis_url})
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login night password {SECRET}\n")
    netrc.chmod(0o600)
    with exporter(tmp_path, file) as url:
        refused = check("--url", url, NETRC="/nowhere")
        assert refused.returncode == 1
        assert "not authorized; set TASKQ_URL_USERNAME and TASKQ_URL_PASSWORD" in refused.stderr
        for environment in (
            {"TASKQ_URL_USERNAME": "night", "TASKQ_URL_PASSWORD": SECRET},
            {"NETRC": str(netrc)},
        ):
            told = check("--url", f"{url}/", **environment)
            assert told.returncode == 0, told.stderr
            assert "web: up; django_tasks_redis, redis" in told.stdout
            assert "no queue below django_tasks:default:" in told.stdout
    gone = check("--url", url)
    assert gone.returncode == 1
    assert re.fullmatch(rf"{url} cannot be read: .*; is the exporter there\?\n", gone.stderr)
