"""The command line as a user meets it; no queue system is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskq_exporter import cli
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Reason, Snapshot, Source, hookimpl
from taskq_exporter.commands import grants as grants_command
from taskq_exporter.commands import listening
from taskq_exporter.config.environment import VARIABLES
from taskq_exporter.testing.processes import free_port
from taskq_exporter.testing.prometheus import ExporterProcess

COMMAND = [sys.executable, "-m", "taskq_exporter"]


async def good() -> Snapshot:
    return Snapshot()


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CELERY_BROKER_URL", "REDIS_URL", "METRICS_HOST", "METRICS_PORT")
    }
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**clean, **(env or {})}
    )


@pytest.mark.parametrize("arguments", [(), ("once",), ("grants",)])
def test_nothing_configured_says_what_to_do(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert "--config.file" in said
    assert "CELERY_BROKER_URL" in said


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
        (("--web.telemetry-path", "metrics"), "begin with /"),
        (("--web.telemetry-path", "/m{"), "a plain path"),
        (("--web.telemetry-path", "/-/ready"), "not below /-/"),
    ],
)
def test_wrong_flags_have_a_message(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert cli.main(arguments) == 1
    assert words in capsys.readouterr().err


def config(tmp_path: Path, extra: str = "") -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: [{name: shop, adapter: celery, url: 'redis://exporter:hunter2@127.0.0.1:1/0', timeout: 1s}]\n" + extra
    )
    return path


def get(exporter: ExporterProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{exporter.address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_serves_a_source_that_is_down_and_ends_with_status_0(tmp_path: Path) -> None:
    path = config(tmp_path, f"state: {{dir: {tmp_path / 'state'}}}\n")
    with ExporterProcess(path, "--web.telemetry-path=/m") as exporter:
        status, page = get(exporter, "/m")
        assert status == 200
        assert 'taskq_source_up{source="shop"} 0.0' in page
        assert 'taskq_source_errors_total{reason="connect",source="shop"}' in page
        assert get(exporter, "/metrics")[0] == 404
        until(lambda: get(exporter, "/-/ready")[0] == 200)
        second = run("--config.file", str(path), "--web.listen-address=127.0.0.1:0")
        assert second.returncode == 1
        assert "used by another taskq-exporter" in second.stderr
        exporter.stop()
        assert exporter.status == 0
        log = exporter.log
    assert "hunter2" not in log + page
    assert log.count("source is down") == 1
    assert "level=info msg=listening" in log
    assert (tmp_path / "state" / "shop.json").exists()


def test_the_environment_sets_source_and_address_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    by_env = free_port()
    env = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "METRICS_HOST": "127.0.0.1", "METRICS_PORT": str(by_env)}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert listening.addresses(cli.parser([]).parse_args([])) == [("127.0.0.1", by_env)]
    with ExporterProcess(None, environment=env) as exporter:
        until(lambda: 'taskq_source_up{source="celery"} 0.0' in get(exporter, "/metrics")[1])
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{by_env}/", timeout=2)


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
