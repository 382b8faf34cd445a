"""The container image, built and run by podman: hardened as a cluster would run it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
BASE = "python:3.13-slim"
TOOLS = ("podman", "buildah", "runc")
CERTIFICATES = Path("/etc/ssl/certs")
HARDENED = ("--no-healthcheck", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
#: For machines without systemd and without the right to raise limits.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Engine:
    """podman and buildah, with an environment of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf"), "BUILDAH_ISOLATION": "chroot"}

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def ensure_base(self) -> None:
        """Find the base image, pull it, or make a stand-in of Debian packages where no registry can be reached."""
        if self.run("podman", "image", "exists", BASE, check=False).returncode == 0:
            return
        pulled = self.run("podman", "pull", "--quiet", BASE, check=False)
        if pulled.returncode == 0:
            return
        if not shutil.which("mmdebstrap"):
            pytest.skip(f"{BASE} cannot be pulled: {pulled.stderr.strip()[-200:]}")
        tree = self.folder / "base.tar"
        packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
        self.run("mmdebstrap", "--quiet", "--variant=minbase", packages, "trixie", tree)
        container = self.run("buildah", "from", "scratch").stdout.strip()
        self.run("buildah", "add", "--quiet", container, tree, "/")
        self.run("buildah", "run", container, "--", "ln", "-sf", "/usr/bin/python3", "/usr/local/bin/python")
        self.run("buildah", "commit", "--quiet", "--rm", container, BASE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def image(engine: Engine) -> Iterator[str]:
    engine.ensure_base()
    tag = f"localhost/taskq-exporter-test:{secrets.token_hex(4)}"
    build = ["buildah", "bud", "--format", "docker", "--pull-never", "--tag", tag]
    if CERTIFICATES.is_dir():  # this machine's authorities, for the proxies that it is behind
        bundle = CERTIFICATES / "ca-certificates.crt"
        build += ["--build-arg", f"SSL_CERT_FILE={bundle}", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    engine.run(*build, ROOT)
    yield tag
    engine.run("podman", "rmi", "--force", tag, check=False)


def run_once(engine: Engine, image: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return engine.run("podman", "run", "--rm", "--network", "none", *HARDENED, image, *arguments, check=False)


def test_says_its_version_and_loads_every_adapter(engine: Engine, image: str) -> None:
    assert run_once(engine, image, "--version").stdout.startswith("taskq-exporter ")
    adapters = run_once(engine, image, "adapters")
    assert adapters.returncode == 0, adapters.stdout
    names = [line.split()[0] for line in adapters.stdout.splitlines()]
    assert names == ["celery", "django_tasks_redis", "postgres"]


def test_holds_no_compiler_no_tests_and_nothing_of_root(engine: Engine, image: str) -> None:
    script = """
set -e
! command -v gcc && ! command -v cc && ! command -v make
! find / -xdev -type f -perm /6000 2>/dev/null | grep .
! find /opt/taskq-exporter -name 'test_*.py' -path '*/taskq_exporter*' | grep .
! python -c 'import hatchling' 2>/dev/null
! python -c 'import pytest' 2>/dev/null
! touch /opt/taskq-exporter/x 2>/dev/null
id -u
"""
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "sh", image, "-c", script]
    done = engine.run(*command, check=False)
    assert (done.returncode, done.stdout) == (0, "65532\n"), done.stderr


def test_serves_and_stops_at_once(engine: Engine, image: str, redis_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sources: [{name: shop, adapter: celery, url: '${BROKER}'}]\n")
    config.chmod(0o644)
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mounted = f"{config}:/etc/taskq-exporter/config.yaml:ro"
    options = ["--detach", "--network", "host", "--env", f"METRICS_PORT={port}", "--env", f"BROKER={redis_url}"]
    flags = ["--config.file=/etc/taskq-exporter/config.yaml", f"--web.listen-address=127.0.0.1:{port}"]
    container = engine.run("podman", "run", *options, *HARDENED, "--volume", mounted, image, *flags).stdout.strip()
    try:
        page = wait_for_page(engine, container, f"http://127.0.0.1:{port}/metrics")
        assert 'taskq_source_up{source="shop"} 1' in page
        healthcheck = json.loads(engine.run("podman", "inspect", image).stdout)[0]["Healthcheck"]["Test"]
        assert healthcheck[0] == "CMD"
        engine.run("podman", "exec", container, *healthcheck[1:])

        start = time.monotonic()
        engine.run("podman", "stop", "--time", "10", container)
        took = time.monotonic() - start
        state = json.loads(engine.run("podman", "inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] == 0, engine.run("podman", "logs", container).stderr
        assert took < 2
    finally:
        engine.run("podman", "rm", "--force", container, check=False)


def wait_for_page(engine: Engine, container: str, url: str) -> str:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
        time.sleep(0.1)
    return pytest.fail(f"no page: {engine.run('podman', 'logs', container).stderr}")
