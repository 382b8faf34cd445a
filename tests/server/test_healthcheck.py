"""`taskq-exporter healthcheck`, asked of exporters that listen in every way."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from taskq_exporter.commands import healthcheck
from taskq_exporter.commands.common import UsageError
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.tls import Certificates
from taskq_exporter.testing.watch import config_file

SOURCE = {"name": "gone", "adapter": "celery", "url": "redis://127.0.0.1:1/0"}
#: bcrypt of a password that nobody here sends.
USERS = {"alice": "$2b$04$abcdefghijklmnopqrstuuqDxGVZMW.sbQmYzKpLAXtqKHmT8bXuq"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return config_file(tmp_path, SOURCE)


def ask(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taskq_exporter", "healthcheck", *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_an_exporter_whose_source_is_down_is_healthy(config: Path) -> None:
    with ExporterProcess(config) as exporter:
        assert ask(f"http://{exporter.address}").returncode == 0
        assert ask(METRICS_PORT=exporter.address.rpartition(":")[2]).returncode == 0
        exporter.freeze()
        hung = ask(f"http://{exporter.address}")
        assert (hung.returncode, "does not answer: timed out" in hung.stderr) == (1, True), hung.stderr
        exporter.thaw()
    gone = ask(f"http://{exporter.address}")
    assert (gone.returncode, f"not healthy: {exporter.address} does not answer" in gone.stderr) == (1, True)


@pytest.mark.parametrize("clients", ["NoClientCert", "RequireAndVerifyClientCert"])
def test_it_needs_neither_password_nor_certificate(
    config: Path, tmp_path: Path, certificates: Certificates, clients: str
) -> None:
    tls = {"cert_file": str(certificates.certificate), "key_file": str(certificates.key), "client_auth_type": clients}
    if clients != "NoClientCert":
        tls["client_ca_file"] = str(certificates.authority)
    file = tmp_path / "web.yml"
    file.write_text(yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": USERS}))
    with ExporterProcess(config, f"--web.config.file={file}") as exporter:
        assert ask(f"https://{exporter.address}").returncode == 0
        # of its own exporter it finds out
        said = ask(METRICS_PORT=exporter.address.rpartition(":")[2])
        assert said.returncode == 0, said.stderr
        assert "Traceback" not in exporter.log


def test_a_probe_costs_little() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "taskq_exporter", "healthcheck", "http://127.0.0.1:1"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "not healthy: 127.0.0.1:1 does not answer" in said
    assert "http.client" in said
    assert not {"aiohttp", "pydantic", "structlog"} & {line.split()[-1] for line in said.splitlines()}


def test_somebody_else_at_the_address_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        assert healthcheck.run(argparse.Namespace(url=f"http://127.0.0.1:{server.server_port}")) == 1
        server.shutdown()
    assert "answers with HTTP status 501: is it a taskq-exporter?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["/sbin/init"], ("127.0.0.1", 9540)),
        (["python", "/opt/bin/taskq-exporter"], ("127.0.0.1", 9540)),
        (["python", "/opt/bin/taskq-exporter", "--web.listen-address=:8000", "--log.level=debug"], ("127.0.0.1", 8000)),
        (["/init", "--", "taskq-exporter", "--config.file", "a", "--web.listen-address", "[::]:80"], ("::1", 80)),
        (["taskq-exporter", "--web.listen-address=10.0.0.1:1", "--web.listen-address=:2"], ("10.0.0.1", 1)),
    ],
)
def test_the_flags_of_the_first_process_say_where(tmp_path: Path, words: list[str], found: tuple[str, int]) -> None:
    line = tmp_path / "cmdline"
    line.write_text("".join(f"{word}\0" for word in words))
    assert healthcheck.own_address(line) == found


@pytest.mark.parametrize("url", ["exporter:9540", "ftp://exporter", "http://", "http://exporter:port"])
def test_an_address_that_is_no_url_says_so(url: str) -> None:
    with pytest.raises(UsageError, match="write the URL as http://HOST:9540"):
        healthcheck.run(argparse.Namespace(url=url))
