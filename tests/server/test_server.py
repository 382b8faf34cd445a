"""The web server and the command line, as a user meets them; no queue system is needed."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter import cli
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, QueueStats, Reason, Snapshot, Source, State, hookimpl
from taskq_exporter.commands import grants as grants_command
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.settings import SourceConfig
from taskq_exporter.sources import ConfiguredSource
from taskq_exporter.web.app import make_app
from taskq_exporter.web.metrics import scrape_deadline

COMMAND = [sys.executable, "-m", "taskq_exporter"]


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    exporter = Exporter()
    yield exporter
    await exporter.close()


def add(exporter: Exporter, name: str, collect: Any, **core: Any) -> None:
    adapter = Adapters({"fake": SimpleNamespace(collect=hookimpl(collect))}).get("fake")
    config = SourceConfig.model_validate({"name": name, "adapter": "fake", "url": "x://user:hunter2@h", **core})
    exporter.add(ConfiguredSource(config, adapter, adapter.options()))


async def good() -> Snapshot:
    return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 3})])


async def test_routes(exporter: Exporter) -> None:
    gate = asyncio.Event()
    keep_secret("x://user:hunter2@h")

    async def first_waits() -> Snapshot:
        await gate.wait()
        raise AdapterError(Reason.CONNECT, "refused <by> the server with hunter2")

    add(exporter, "ok", good)
    add(exporter, "bad & ugly", first_waits)
    async with TestClient(TestServer(make_app(exporter))) as client:
        ready = await client.get("/-/ready")
        assert (ready.status, "waiting for the first collect of ok, bad & ugly" in await ready.text()) == (503, True)
        gate.set()
        page = await client.get("/metrics")
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await page.text()
        assert 'taskq_source_up{source="ok"} 1.0' in text
        assert 'taskq_source_up{source="bad & ugly"} 0.0' in text
        assert "process_cpu_seconds_total" in text
        assert "taskq_exporter_build_info" in text
        assert (await client.get("/-/ready")).status == 200
        assert (await client.get("/-/healthy")).status == 200
        assert (await client.head("/-/healthy")).status == 200
        assert "hunter2" not in text
        assert (await client.get("/nothing")).status == 404
        assert (await client.post("/metrics")).status == 405


async def test_content_negotiation_and_gzip(exporter: Exporter) -> None:
    add(exporter, "ok", good)
    async with TestClient(TestServer(make_app(exporter)), auto_decompress=False) as client:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        page = await client.get("/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
        assert page.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert page.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await page.read()).endswith(b"# EOF\n")
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers


async def test_the_page_comes_within_the_scrape_deadline(exporter: Exporter) -> None:
    async def hangs() -> Snapshot:
        await asyncio.sleep(60)
        return Snapshot()

    add(exporter, "ok", good)
    add(exporter, "hangs", hangs, timeout=30)
    async with TestClient(TestServer(make_app(exporter))) as client:
        begun = time.monotonic()
        page = await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
        assert time.monotonic() - begun < 1
        text = await page.text()
        assert 'taskq_source_up{source="hangs"} 0.0' in text
        assert 'taskq_source_errors_total{reason="timeout",source="hangs"} 1.0' in text
        assert 'taskq_tasks{queue="q",source="ok",state="ready"} 3.0' in text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("10", 9.5), ("0.4", 0.2), ("nan", None), ("-1", None), ("0", None), ("inf", None), ("soon", None)],
)
def test_the_timeout_header(header: str | None, seconds: float | None) -> None:
    deadline = scrape_deadline(header, 100.0)
    assert deadline == (float("inf") if seconds is None else pytest.approx(100 + seconds))


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CELERY_BROKER_URL", "REDIS_URL", "METRICS_HOST", "METRICS_PORT")
    }
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**clean, **(env or {})}
    )


def test_nothing_configured_says_what_to_do() -> None:
    for arguments in ((), ("once",), ("grants",)):
        result = run(*arguments)
        assert result.returncode == 1
        assert "--config.file" in result.stderr
        assert "CELERY_BROKER_URL" in result.stderr
        assert "Traceback" not in result.stderr


def test_version_and_adapters() -> None:
    assert re.fullmatch(r"taskq-exporter \d+\.\d+\.\d+\n", run("--version").stdout)
    result = run("adapters")
    assert result.returncode == 0, result.stdout
    for name in ("celery", "django_tasks_redis", "postgres"):
        assert re.search(rf"^{name} +taskq-exporter-{name.replace('_', '-')} \d", result.stdout, re.M)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config.check",), "--config.file"),
        (("--config.check", "--config.file", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        (("--config.file", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        (("--web.listen-address", "9540"), "HOST:PORT"),
        (("--web.listen-address", ":99999"), "HOST:PORT"),
        (("--web.listen-address", f"{'a' * 70}:9540"), "cannot listen on aaaa"),
        (("--web.telemetry-path", "metrics"), "begin with /"),
        (("--web.telemetry-path", "/m{"), "a plain path"),
        (("--web.telemetry-path", "/-/ready"), "not below /-/"),
    ],
)
def test_wrong_flags_have_a_message_and_no_traceback(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments, env={"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def config(tmp_path: Path, extra: str = "") -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: [{name: shop, adapter: celery, url: 'redis://exporter:hunter2@127.0.0.1:1/0', timeout: 1s}]\n" + extra
    )
    return path


@contextmanager
def serving(*arguments: str, port: int, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_serves_a_source_that_is_down_and_ends_with_status_0(tmp_path: Path) -> None:
    port = free_port()
    path = config(tmp_path, f"state: {{dir: {tmp_path / 'state'}}}\n")
    arguments = ("--config.file", str(path), "--web.listen-address", f"127.0.0.1:{port}", "--web.telemetry-path", "/m")
    with serving(*arguments, port=port) as process:
        status, page = get(port, "/m")
        assert status == 200
        assert 'taskq_source_up{source="shop"} 0.0' in page
        assert 'taskq_source_errors_total{reason="connect",source="shop"}' in page
        assert get(port, "/metrics")[0] == 404
        deadline = time.monotonic() + 10
        while get(port, "/-/ready")[0] != 200:
            assert time.monotonic() < deadline
        second = run(*arguments[:2], "--web.listen-address", f"127.0.0.1:{free_port()}")
        assert second.returncode == 1
        assert "used by another taskq-exporter" in second.stderr
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 2
        assert process.stderr is not None
        log = process.stderr.read()
    assert "hunter2" not in log + page
    assert log.count("source is down") == 1
    assert "level=info msg=listening" in log
    assert (tmp_path / "state" / "shop.json").exists()


def test_the_environment_sets_source_and_address_and_flags_win() -> None:
    by_env, by_flag = free_port(), free_port()
    env = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "METRICS_HOST": "127.0.0.1", "METRICS_PORT": str(by_env)}
    with serving(port=by_env, env=env):
        deadline = time.monotonic() + 10
        while 'taskq_source_up{source="celery"} 0.0' not in get(by_env, "/metrics")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    with (
        serving("--web.listen-address", f"127.0.0.1:{by_flag}", port=by_flag, env=env),
        pytest.raises(OSError, match="refused"),
    ):
        urllib.request.urlopen(f"http://127.0.0.1:{by_env}/", timeout=2)


def test_a_taken_address_is_a_message(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        result = run("--config.file", str(config(tmp_path)), "--web.listen-address", f"127.0.0.1:{s.getsockname()[1]}")
    assert result.returncode == 1
    assert "cannot listen on 127.0.0.1:" in result.stderr
    assert "Traceback" not in result.stderr


def test_once_prints_a_page_and_fails_where_a_source_failed(tmp_path: Path) -> None:
    result = run("once", "--config.file", str(config(tmp_path)))
    assert result.returncode == 1
    assert 'taskq_source_up{source="shop"} 0.0' in result.stdout
    assert "hunter2" not in result.stdout + result.stderr
    [message] = result.stderr.splitlines()
    assert message.startswith(f"{tmp_path}/config.yaml:1:46: source 'shop' is down: connect: ")
    good = run("--config.check", "--config.file", str(config(tmp_path)))
    assert (good.returncode, "1 source" in good.stdout) == (0, True)


@pytest.mark.parametrize("secret", ["/nowhere/url", "/proc/self/mem"])  # no file, and one that even root cannot read
def test_a_url_file_that_cannot_be_read_stops_only_its_source(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"sources:\n  - {{name: shop, adapter: celery, url_file: {secret}}}\n"
        "  - {name: web, adapter: celery, url: 'redis://127.0.0.1:1/0'}\n"
    )
    once = run("once", "--config.file", str(path))
    assert 'taskq_source_up{source="shop"} 0.0' in once.stdout
    assert f"{path}:2:45: source 'shop' is down: auth: url_file {secret} cannot be read" in once.stderr
    assert once.returncode == 1
    assert "Traceback" not in once.stderr


def test_grants_that_fail_stop_only_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @hookimpl
    def grants(source: Source) -> str:
        if source.name == "shop":
            raise AdapterError(Reason.UNSUPPORTED, "nobody can read hunter2")
        return "GRANT"

    plugin = SimpleNamespace(collect=hookimpl(good), grants=grants)
    monkeypatch.setattr(grants_command, "Adapters", lambda: Adapters({"celery": plugin}))
    monkeypatch.setattr(cli, "configure", lambda *_: None)
    path = config(tmp_path)
    path.write_text(path.read_text().replace("}]", "}, {name: web, adapter: celery, url: 'x://h'}]"))
    assert cli.main(["grants", "--config.file", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "# web (celery)\nGRANT\n\n"
    assert err == f"{path}:1:46: source 'shop': unsupported: nobody can read ***\n"


def test_the_core_starts_without_any_broker_client() -> None:
    clients = ("redis", "celery", "kombu", "psycopg", "django")
    code = f"import sys, taskq_exporter.cli as c; c.parser(); print([m for m in {clients} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_a_task_that_does_not_end_holds_up_no_exit_and_changes_no_status() -> None:
    code = """
import asyncio, sys
from taskq_exporter.commands import common
async def stubborn():
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass
async def main():
    asyncio.create_task(stubborn())
    await asyncio.sleep(0.01)
    return 3
common.LAST_TASKS = 0.1
sys.exit(common.run_loop(main()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (result.returncode, result.stderr) == (3, "")
    assert "leaving what does not end" in result.stdout
