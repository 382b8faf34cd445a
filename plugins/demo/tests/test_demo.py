"""The demo from outside: a process that is started, read and ended in every way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="needs process groups")]

DEMO = [sys.executable, "-m", "taskq_exporter", "demo"]
SOURCES = {"shop": "celery", "billing": "postgres"} | (
    {"web": "django_tasks_redis"} if sys.version_info >= (3, 12) else {}
)
#: What a user's shell may hold; none of it may lead the demo astray.
ASTRAY = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DJANGO_SETTINGS_MODULE": "no.such.settings",
    "PGHOST": "127.0.0.1",
    "PGPORT": "1",
    "METRICS_PORT": "1",
    "http_proxy": "http://127.0.0.1:1",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for temporary files that every user may pass through: pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="demo-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, **ASTRAY, "TMPDIR": str(folder)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes(folder: Path) -> dict[int, str]:
    """Processes whose command or environment names the folder, by id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if command and f"{folder}/taskq-exporter-demo" in command + environ:
            found[int(entry.name)] = command
    return found


def wait_until_gone(folder: Path) -> None:
    until = time.monotonic() + 20
    while left := (list(folder.iterdir()) or processes(folder)):
        assert time.monotonic() < until, left
        time.sleep(0.1)


def test_once_prints_one_page_of_every_adapter(folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True, timeout=150, check=False)

    assert done.returncode == 0, done.stderr
    values: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(done.stdout):
        for s in family.samples:
            for label in ("state", "outcome", "adapter"):
                if label in s.labels:
                    key = (s.name, s.labels.get("source", ""), s.labels[label])
                    values[key] = values.get(key, 0) + s.value
    for source, adapter in SOURCES.items():
        assert values["taskq_source_info", source, adapter] == 1
        assert ("taskq_tasks", source, "ready") in values
        assert values["taskq_tasks_finished_total", source, "succeeded"] > 0
        assert values["taskq_tasks_finished_total", source, "failed"] > 0
        assert values["taskq_task_run_duration_seconds_count", source, "succeeded"] > 0
    assert 'queue="",source="shop"' not in done.stdout, "the exporter follows before the first worker starts"
    for secret in ("redis://", "postgresql://", "@127.0.0.1"):
        assert secret not in done.stdout + done.stderr
    wait_until_gone(folder)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["interrupt", "hangup", "kill", "exporter dies"])
def test_leaves_nothing_behind(how: str, folder: Path, environment: dict[str, str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    demo = subprocess.Popen(
        [*DEMO, "--web.listen-address", address],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert demo.stdout
        assert demo.stdout.readline().split()[:3] == ["SOURCE", "QUEUE", "READY"]
        deadline = time.monotonic() + 20
        while len(running := processes(folder)) < 10:  # a worker's children come a moment after it
            assert time.monotonic() < deadline, running
            time.sleep(0.1)
        if how == "exporter dies":
            (exporter,) = (pid for pid, command in running.items() if "--config.file=" in command)
            os.kill(exporter, signal.SIGKILL)
        else:
            signum = {"interrupt": signal.SIGINT, "hangup": signal.SIGHUP, "kill": signal.SIGKILL}[how]
            demo.send_signal(signum)
        _, notes = demo.communicate(timeout=20)
    finally:
        demo.kill()
        demo.communicate()
    assert demo.returncode == {"kill": -signal.SIGKILL, "exporter dies": 1}.get(how, 0), notes
    if how == "exporter dies":
        assert "exporter ended with status -9" in notes
    assert f"http://{address}/metrics" in notes
    wait_until_gone(folder)


def test_a_taken_address_is_said(folder: Path, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*DEMO, "--web.listen-address", address]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.iterdir())
