"""The container image, built and run by podman: hardened as a cluster would run it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from containers import HARDENED, ROOT, Engine, free_port, unavailable

from taskq_exporter.testing.environments import python_with
from taskq_exporter.testing.tls import Certificates

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADAPTERS = sorted(re.findall(r"[\w-]+", PROJECT["optional-dependencies"]["all"][0].partition("[")[2].replace("-", "_")))
VENV = "/opt/taskq-exporter"
#: What container-structure-test asks of the settings. Of files a shell in the image tells more, and much faster.
STRUCTURE = {
    "schemaVersion": "2.0.0",
    "metadataTest": {
        "user": "65532:65532",
        "exposedPorts": ["9540"],
        "entrypoint": ["taskq-exporter"],
        "cmd": [],
        "volumes": [],
        "labels": [
            {"key": "org.opencontainers.image.title", "value": "taskq-exporter"},
            {"key": "org.opencontainers.image.version", "value": r"^\d+\.\d+\.\d+$", "isRegex": True},
            {"key": "org.opencontainers.image.revision", "value": "abc123"},
            {"key": "org.opencontainers.image.licenses", "value": "Apache-2.0"},
        ],
        "envVars": [{"key": "PATH", "value": f"^{VENV}/bin:", "isRegex": True}],
    },
}


def test_says_its_version_and_loads_every_adapter(engine: Engine, image: str) -> None:
    assert engine.run_once(image, "--version").stdout.startswith("taskq-exporter ")
    adapters = engine.run_once(image, "adapters")
    assert adapters.returncode == 0, adapters.stdout
    assert [line.split()[0] for line in adapters.stdout.splitlines()] == ADAPTERS


def test_holds_no_compiler_no_tests_and_nothing_of_root(engine: Engine, image: str) -> None:
    script = """
set -e
! command -v gcc && ! command -v cc && ! command -v make
! find / -xdev -type f -perm /6000 2>/dev/null | grep .
! find /opt/taskq-exporter -name 'test_*.py' -path '*/taskq_exporter*' | grep .
! find /opt/taskq-exporter -writable | grep .
! python -c 'import hatchling' 2>/dev/null
! python -c 'import mypy' 2>/dev/null
! /opt/taskq-exporter/bin/python -m pip --version 2>/dev/null
! ls -d /src /wheels /build /sbom 2>/dev/null
test "$(stat -c %u /var/lib/taskq-exporter)" = 65532
python -c 'import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http'
id -u
"""
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "sh", image, "-c", script]
    done = engine.run(*command, check=False)
    assert (done.returncode, done.stdout) == (0, "65532\n"), done.stderr


def test_its_settings(engine: Engine, image: str, tmp_path: Path) -> None:
    labelled = engine.build(ROOT, f"{image}-labelled", "--build-arg", "REVISION=abc123")
    engine.run("podman", "save", "--quiet", "--format", "docker-archive", "--output", tmp_path / "image.tar", labelled)
    (tmp_path / "structure.yaml").write_text(yaml.safe_dump(STRUCTURE))
    tool = python_with(Path(__file__).with_name("requirements-image.txt")).with_name("container-structure-test")
    engine.run(
        *(tool, "test", "--driver", "tar", "--image", tmp_path / "image.tar"),
        *("--config", tmp_path / "structure.yaml", "--output", "json"),
    )
    engine.run("podman", "rmi", labelled)


def test_tells_what_it_is_made_of(engine: Engine, image: str) -> None:
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint"]
    bill = json.loads(engine.run(*command, "cat", image, f"{VENV}/sbom.cdx.json").stdout)
    freeze = "from importlib.metadata import distributions as d; print(*sorted(f'{x.name}=={x.version}' for x in d()))"
    installed = engine.run(*command, "python", image, "-c", freeze).stdout.split()
    listed = {f"{component['name']}=={component['version']}" for component in bill["components"]}
    assert (bill["bomFormat"], listed) == ("CycloneDX", set(installed))
    locked = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    foreign = [wheel for wheel in listed if not wheel.startswith("taskq-exporter")]
    assert len(foreign) > 20
    assert [wheel for wheel in foreign if f"{wheel.lower().replace('_', '-')} " not in locked] == []


def test_leaves_out_what_the_build_is_not_asked_for(engine: Engine, image: str) -> None:
    small = engine.build(ROOT, f"{image}-small", "--build-arg", "EXTRAS=postgres")
    adapters = engine.run_once(small, "adapters")
    assert [line.split()[0] for line in adapters.stdout.splitlines()] == ["postgres"]
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "python", small, "-c"]
    for module in ("celery", "redis", "opentelemetry"):
        assert f"No module named '{module}'" in engine.run(*command, f"import {module}", check=False).stderr
    engine.run("podman", "rmi", small)


@pytest.mark.parametrize("protected", [False, True], ids=["plain", "web config"])
def test_serves_and_stops_at_once(
    engine: Engine, image: str, redis_url: str, tmp_path: Path, certificates: Certificates, protected: bool
) -> None:
    port = free_port()
    (tmp_path / "config.yaml").write_text("sources: [{name: shop, adapter: celery, url: '${BROKER}'}]\n")
    flags = ["--config.file=/etc/taskq-exporter/config.yaml", f"--web.listen-address=127.0.0.1:{port}"]
    if protected:
        flags.append("--web.config.file=/etc/taskq-exporter/web.yaml")
        shutil.copy(certificates.certificate, tmp_path / "tls.crt")
        shutil.copy(certificates.key, tmp_path / "tls.key")
        (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    mounted = f"{tmp_path}:/etc/taskq-exporter:ro"
    options = ["--detach", "--network", "host", "--env", f"BROKER={redis_url}"]
    container = engine.run("podman", "run", *options, *HARDENED, "--volume", mounted, image, *flags).stdout.strip()
    try:
        if protected:
            wait_until_healthy(engine, container, image)
        else:
            page = wait_for_page(engine, container, f"http://127.0.0.1:{port}/metrics")
            assert 'taskq_source_up{source="shop"} 1' in page
            wait_until_healthy(engine, container, image)

        start = time.monotonic()
        engine.run("podman", "stop", "--time", "10", container)
        took = time.monotonic() - start
        state = json.loads(engine.run("podman", "inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] == 0, engine.run("podman", "logs", container).stderr
        assert took < 2
    finally:
        engine.run("podman", "rm", "--force", container, check=False)


def test_is_not_healthy_where_nothing_listens(engine: Engine, image: str) -> None:
    done = engine.run_once(image, "healthcheck")
    assert (done.returncode, "not healthy: 127.0.0.1:9540 does not answer" in done.stderr) == (1, True), done.stderr


def test_runs_on_arm(engine: Engine, image: str) -> None:
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        unavailable("nothing here runs arm64 programs (Debian: apt install qemu-user-static binfmt-support)")
    base = engine.ensure_base("arm64")
    containerfile = engine.folder / "Dockerfile"
    containerfile.write_text((ROOT / "Dockerfile").read_text().replace("python:${PYTHON}-slim", base))
    tag = engine.build(ROOT, f"{image}-arm64", "--arch=arm64", "--file", str(containerfile))
    adapters = engine.run_once(tag, "adapters")
    assert [line.split()[0] for line in adapters.stdout.splitlines()] == ADAPTERS, adapters.stderr
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "uname", tag, "-m"]
    assert engine.run(*command).stdout == "aarch64\n"
    engine.run("podman", "rmi", tag)


def wait_until_healthy(engine: Engine, container: str, image: str) -> None:
    """Run the image's health check in the container until it succeeds."""
    healthcheck = json.loads(engine.run("podman", "inspect", image).stdout)[0]["Healthcheck"]["Test"]
    assert healthcheck[0] == "CMD"
    done: subprocess.CompletedProcess[str]
    until = time.monotonic() + 30
    while (done := engine.run("podman", "exec", container, *healthcheck[1:], check=False)).returncode:
        assert time.monotonic() < until, done.stderr + engine.run("podman", "logs", container).stderr
        time.sleep(0.5)


def wait_for_page(engine: Engine, container: str, url: str) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
        time.sleep(0.1)
    return pytest.fail(f"no page: {engine.run('podman', 'logs', container).stderr}")
