"""`once`, and every command that it sends, as servers count them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from taskq_exporter.testing import Page

SECRET = "hunter2 is long"
COMMAND = [sys.executable, "-m", "taskq_exporter", "once"]


def with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=f"{user}:{password.replace(' ', '%20')}@{host}"))


def once(tmp_path: Path, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "taskq.yaml"
    file.write_text(text)
    command = [*COMMAND, f"--config.file={file}", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def told(stderr: str, source: str) -> list[str]:
    """The commands of one source."""
    line = re.compile(rf"{source} +(?:[\d.]+ ms|\+) +(.*)")
    return [match[1] for match in map(line.fullmatch, stderr.splitlines()) if match]


def test_trace_tells_every_command_to_redis(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser("watcher", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=["+@all"])
        client.xadd("django_tasks:default:stream:default:0", {"x": "y"})
        client.config_resetstat()
        url = with_user(redis_url, "watcher", SECRET)
        run = once(tmp_path, f"sources: [{{name: web, adapter: django_tasks_redis, url: '{url}'}}]", "--trace")
        counted: Counter[str] = Counter()
        for name, stats in client.info("commandstats").items():
            counted[name.removeprefix("cmdstat_").partition("|")[0].upper()] += stats["calls"]
    assert run.returncode == 0, run.stderr
    sent = told(run.stderr, "web")
    assert sent[0] == "AUTH ***"
    assert SECRET not in run.stderr
    del counted["CONFIG"]  # ours, as is what asks for these numbers, which does not count itself yet
    words = [(command.split()[0], command.endswith("(failed)")) for command in sent]
    answered = Counter(word for word, failed in words if not failed)
    assert answered["SCAN"] >= 1
    # what is cut off by the end of the process may have been sent or not
    assert answered <= counted <= Counter(word for word, _ in words)
    assert Page(run.stdout).value("taskq_source_up", source="web") == 1
    assert not told(once(tmp_path, (tmp_path / "taskq.yaml").read_text()).stderr, "web")


def test_trace_tells_every_statement(postgres_dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE jobs (id bigint PRIMARY KEY, queue text, state text, note text)")
        connection.execute("CREATE INDEX ON jobs (queue) WHERE state = 'queued'")
        connection.execute("INSERT INTO jobs VALUES (1, 'a', 'queued')")
    table = "{name: jobs, columns: {id: id, queue: queue, state: state}, states: {ready: [queued]}}"
    text = f"sources: [{{name: jobs, adapter: postgres, url: '{postgres_dsn}', table: {table}}}]"
    run = once(tmp_path, text, "--trace")
    assert run.returncode == 0, run.stderr
    sent = told(run.stderr, "jobs")
    assert len(sent) == Page(run.stdout).value("taskq_source_commands_total", source="jobs")
    assert sent[0].startswith("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout")
    assert sent[-1] == "COMMIT"
    assert any('"jobs"' in statement for statement in sent), run.stderr
    assert all(len(statement) < 600 for statement in sent)


@pytest.mark.newest
def test_trace_tells_what_a_thread_sends(rabbitmq_url: str, tmp_path: Path) -> None:
    url = with_user(rabbitmq_url, *_account(rabbitmq_url))
    text = f"sources: [{{name: shop, adapter: celery, url: '{url}', queues: {{expected: [emails, reports]}}}}]"
    run = once(tmp_path, text, "--trace")
    assert run.returncode == 0, run.stderr
    sent = told(run.stderr, "shop")
    assert sent[0].startswith("connection.open ")
    assert {"channel.open", "queue.declare passive emails", "queue.declare passive reports"} <= {*sent}
    assert _account(rabbitmq_url)[1] not in sent


def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    run = once(tmp_path, "sources: [{name: shop, adapter: celery, url: 'redis://127.0.0.1:1/0'}]", "--trace")
    assert run.returncode == 1
    assert any(line.endswith("  (failed)") for line in told(run.stderr, "shop"))
    assert "source 'shop' is down: connect" in run.stderr


def _account(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.username or "", parts.password or ""
