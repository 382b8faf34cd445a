"""Where the server listens, and how it stops: several addresses, and time for load balancers to notice."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq_exporter import cli
from taskq_exporter.testing.processes import free_port
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.watch import config_file

SOURCE = {"name": "gone", "adapter": "celery", "url": "redis://127.0.0.1:1/0"}


def status(address: str, path: str = "/-/ready") -> int:
    """The status of an answer; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait(address: str, wanted: int) -> None:
    deadline = time.monotonic() + 20
    while (now := status(address)) != wanted:
        assert time.monotonic() < deadline, f"{now} instead of {wanted}"
        time.sleep(0.02)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return config_file(tmp_path, SOURCE)


def test_it_listens_on_each_address(config: Path) -> None:
    other = f"{'[::1]' if has_ipv6() else '127.0.0.1'}:{free_port()}"
    with ExporterProcess(config, f"--web.listen-address={other}") as exporter:
        wait(exporter.address, 200)
        assert status(other, "/metrics") == 200
        listening = re.findall(r"msg=listening address=(\S+) path=/metrics tls=false", exporter.log)
        assert listening == [exporter.address, other]


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("9540", "'9540' is not HOST:PORT"),
        ("localhost:", "'localhost:' is not HOST:PORT"),
        ("unix:/run/taskq.sock", "is not HOST:PORT"),
        (":65536", "is not HOST:PORT"),
        (f"{'x' * 64}:0", f"cannot listen on {'x' * 64}:0"),
        ("TAKEN", "cannot listen on TAKEN: "),
    ],
)
def test_an_address_that_cannot_be_had_is_a_message(
    listen: str, why: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--web.listen-address=127.0.0.1:0", f"--web.listen-address={listen.replace('TAKEN', address)}"]
        assert cli.main([f"--config.file={config}", *flags]) == 1
    assert why.replace("TAKEN", address) in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def draining(config: Path) -> Iterator[ExporterProcess]:
    """An exporter that was told to stop, and has an hour for it."""
    with ExporterProcess(config, "--web.shutdown-delay=1h") as exporter:
        wait(exporter.address, 200)
        os.kill(exporter.pid, signal.SIGTERM)
        wait(exporter.address, 503)
        yield exporter


def test_it_is_not_ready_and_serves_while_it_drains(draining: ExporterProcess) -> None:
    for path in ("/metrics", "/-/healthy", "/"):
        assert status(draining.address, path) == 200
    # a second signal is enough waiting
    draining.stop()
    assert draining.status == 0
    assert status(draining.address) == 0


def test_without_a_delay_it_stops_at_once(config: Path) -> None:
    with ExporterProcess(config) as exporter:
        exporter.stop()
        assert exporter.status == 0


def test_a_delay_is_a_duration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([f"--config.file={config}", "--web.shutdown-delay=soon"])
    assert "--web.shutdown-delay: not a duration: write it as 500ms" in capsys.readouterr().err
