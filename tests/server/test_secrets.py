"""No password on any page, in any log line, in any message, in the process' title, however a source fails."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.servers import start_postgres, start_redis

MARK = "hunter2"
ODD = f"{MARK}/@:%'\"\\ é"
PAGES = (
    *("/", "/metrics", "/config", "/adapters", "/-/ready", "/-/healthy", "/health", "/api/sources", "/api/check"),
    *("/health/wrong-password", "/probe?target=wrong-password&debug=true", "/sd", "/nothing"),
)


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, tuple[str, str]]]:
    """Adapters and URLs that fail in many ways, each with a password."""
    with start_redis("--requirepass", "right") as redis, start_postgres() as postgres:
        host = redis.url.rpartition("@")[2]
        database = re.sub(r"^.*//([^@/]*@)?", "", postgres.url)
        yield {
            "wrong-password": ("celery", f"redis://u:{MARK}-1@{host}"),
            "odd-password": ("celery", f"redis://u:{quote(ODD, safe='')}@{host}"),
            "odd-and-not-escaped": ("celery", f"redis://u:{MARK}/x@y:z@{host}"),
            "refused": ("django_tasks_redis", f"redis://:{MARK}-2@127.0.0.1:1/0"),
            "no-such-host": ("celery", f"redis://u:{MARK}-3@nowhere.invalid:6379/0"),
            "no-port": ("celery", f"redis://u:{MARK}-4@127.0.0.1:port/0"),
            "sentinels": ("celery", f"sentinel://:{MARK}-5@127.0.0.1:1;sentinel://:{MARK}-6@127.0.0.1:1"),
            "rabbitmq": ("celery", f"amqp://u:{MARK}-7@127.0.0.1:1//"),
            "no-such-role": ("postgres", f"postgresql://nobody:{MARK}-9@{database}"),
            "dsn": ("postgres", f"host=127.0.0.1 port=1 user=u password={MARK}-10 dbname=x"),
            "query": ("postgres", f"postgresql://127.0.0.1:1/x?user=u&password={MARK}-11"),
            "no-dsn": ("postgres", f"postgresql://u:{MARK}-12@[::1/x?sslmode=nonsense"),
        }


@pytest.fixture
def config(urls: dict[str, tuple[str, str]], tmp_path: Path) -> Path:
    (tmp_path / "url").write_text(f"redis://u:{MARK}-file@127.0.0.1:1/0\n")
    (tmp_path / "no-url").write_text(f"{MARK}-no-url\n")
    table = {"table": {"name": "public.jobs", "columns": {"state": "state"}, "states": {"ready": ["queued"]}}}
    sources: list[dict[str, Any]] = [
        {"name": name, "adapter": adapter, "url": url, **(table if adapter == "postgres" else {})}
        for name, (adapter, url) in urls.items()
    ]
    amqp = {"adapter": "celery", "url": f"amqp://u:{MARK}-a@127.0.0.1:1//"}
    flow = {"adapter": "taskflow", "url": f"postgresql://u:{MARK}-b@127.0.0.1:1/x"}
    sources += [
        {"name": "file", "adapter": "celery", "url_file": str(tmp_path / "url")},
        {"name": "no-url", "adapter": "celery", "url_file": str(tmp_path / "no-url")},
        {"name": "management", **amqp, "management_url": f"http://u:{MARK}-c@127.0.0.1:1"},
        {"name": "variable", "adapter": "celery", "url": "redis://u:${PASSWORD}@127.0.0.1:1/0"},
        {"name": "redis", **flow, "redis_url": f"redis://:{MARK}-d@127.0.0.1:1/0"},
        {"name": "redis-file", **flow, "redis_url_file": str(tmp_path / "url")},
        {
            "name": "sentinel-password",
            "adapter": "celery",
            "url": "sentinel://127.0.0.1:1",
            "master_name": "m",
            "sentinel_kwargs": {"password": f"{MARK}-e"},
        },
    ]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"defaults": {"timeout": "2s"}, "sources": sources}))
    return path


def ask(exporter: ExporterProcess, path: str, method: str = "GET") -> str:
    request = urllib.request.Request(f"http://{exporter.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def without_password(text: str, what: str) -> None:
    lines = [line for line in text.splitlines() if MARK in line]
    assert not lines, f"{what}: {lines[0]}"


def test_no_password_is_shown_anywhere(config: Path) -> None:
    secret = {"PASSWORD": f"{MARK}-variable"}
    with ExporterProcess(config, "--log.level=debug", "--web.enable-lifecycle", environment=secret) as exporter:
        deadline = time.monotonic() + 60
        while "is ready" not in ask(exporter, "/-/ready"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        up = exporter.page().values("taskq_source_up")
        assert len(up) == 19
        assert not any(up.values())
        for path in PAGES:
            without_password(ask(exporter, path), path)
        shown = yaml.safe_load(ask(exporter, "/config"))["sources"]
        assert all("***" in str(s) for s in shown if s["name"] not in ("file", "no-url"))
        good = config.read_text()
        for bad in (good.replace("timeout: 2s", "timeout: soon"), f"sources: ['redis://u:{MARK}@h']", f"'{MARK}': ["):
            config.write_text(bad)
            text = ask(exporter, "/-/reload", "POST")
            assert "not reloaded" in text
            without_password(text, "a failed reload")
        config.write_text(good)
        assert "nothing changed" in ask(exporter, "/-/reload", "POST")
        process = Path(f"/proc/{exporter.pid}/cmdline")
        if process.exists():
            without_password(process.read_text(), "the process' title")
        log = exporter.log
    assert log.count("source is down") == 19
    without_password(log, "the log")


@pytest.mark.parametrize(
    ("command", "status"),
    [(("once",), 1), (("once", "--trace"), 1), (("check",), 1), (("grants",), 1), (("--config.check",), 0)],
)
def test_no_command_prints_a_password(config: Path, command: tuple[str, ...], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskq_exporter", *command, "--config.file", str(config)],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PASSWORD": f"{MARK}-variable"},
    )
    assert done.returncode == status, done.stderr
    without_password(done.stdout, "stdout")
    without_password(done.stderr, "stderr")
