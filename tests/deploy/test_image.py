"""The container image, built and run by podman: hardened as a cluster would run it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers import HARDENED, ROOT, Engine, free_port, unavailable
from kube import wait_for_page

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
python -c 'import asyncio, pathlib; pathlib.Path(asyncio.base_events.__cached__).stat()'
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


def test_serves_and_stops_at_once(engine: Engine, image: str, redis_url: str, tmp_path: Path) -> None:
    serves_and_stops(engine, image, redis_url, tmp_path)


def test_is_healthy_behind_tls(
    engine: Engine, image: str, redis_url: str, tmp_path: Path, certificates: Certificates
) -> None:
    shutil.copy(certificates.certificate, tmp_path / "tls.crt")
    shutil.copy(certificates.key, tmp_path / "tls.key")
    (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    flag = "--web.config.file=/etc/taskq-exporter/web.yaml"
    serves_and_stops(engine, image, redis_url, tmp_path, flag, page=False)


def test_is_not_healthy_where_nothing_listens(engine: Engine, image: str) -> None:
    done = engine.run_once(image, "healthcheck")
    assert (done.returncode, "not healthy: 127.0.0.1:9540 does not answer" in done.stderr) == (1, True), done.stderr


@pytest.fixture(scope="module")
def arm_image(engine: Engine, image: str) -> Iterator[str]:
    """The image for arm64: made by this machine's Python, but for the last stage, which is emulated."""
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        unavailable("nothing here runs arm64 programs: see CONTRIBUTING.md")
    containerfile = engine.folder / "Dockerfile"
    last = "\nFROM python:${PYTHON}-slim\n"
    text = (ROOT / "Dockerfile").read_text()
    assert last in text
    containerfile.write_text(text.replace(last, f"\nFROM {engine.ensure_base('arm64')}\n"))
    # Not --platform: buildah 1.28 then wants an arm64 base for each stage, whatever its FROM says.
    options = ["--build-arg", "TARGETARCH=arm64", "--file", str(containerfile)]
    yield engine.build(ROOT, f"{image}-arm64", *options)
    engine.run("podman", "rmi", "--force", f"{image}-arm64", check=False)


def test_is_one_image_for_both_architectures(engine: Engine, image: str, arm_image: str) -> None:
    listed = f"{image}-all"
    engine.run("buildah", "manifest", "create", listed, image, arm_image)
    try:
        found = json.loads(engine.run("buildah", "manifest", "inspect", listed).stdout)["manifests"]
        assert [(m["platform"]["os"], m["platform"]["architecture"]) for m in found] == [
            ("linux", "amd64"),
            ("linux", "arm64"),
        ]
    finally:
        engine.run("buildah", "manifest", "rm", listed)


def test_runs_on_arm(engine: Engine, arm_image: str, redis_url: str, tmp_path: Path) -> None:
    adapters = engine.run_once(arm_image, "adapters")
    assert [line.split()[0] for line in adapters.stdout.splitlines()] == ADAPTERS, adapters.stderr
    command = ["podman", "run", "--rm", "--network", "none", *HARDENED, "--entrypoint", "uname", arm_image, "-m"]
    assert engine.run(*command).stdout == "aarch64\n"
    serves_and_stops(engine, arm_image, redis_url, tmp_path, emulated=True)


def serves_and_stops(
    engine: Engine, image: str, redis_url: str, folder: Path, *flags: str, page: bool = True, emulated: bool = False
) -> None:
    """Run the image hardened, configured by that folder, until it shows its source and is healthy; then stop it.

    Emulated it is some twenty times slower: the health check would miss its deadline, and stopping has 10 seconds.
    """
    port = free_port()
    (folder / "config.yaml").write_text("sources: [{name: shop, adapter: celery, url: '${BROKER}'}]\n")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    mounted = ["--volume", f"{folder}:/etc/taskq-exporter:ro"]
    options = ["--detach", "--network", "host", "--env", f"BROKER={redis_url}", *mounted]
    own = ["--config.file=/etc/taskq-exporter/config.yaml", f"--web.listen-address=127.0.0.1:{port}", *flags]
    container = engine.run("podman", "run", *options, *HARDENED, image, *own).stdout.strip()
    try:
        if page:
            wait_for_page(f"http://127.0.0.1:{port}/metrics", lambda seen: seen.value("taskq_source_up", source="shop"))
        if not emulated:
            wait_until_healthy(engine, container, image)
        start = time.monotonic()
        engine.run("podman", "stop", "--time", "10", container)
        took = time.monotonic() - start
        state = json.loads(engine.run("podman", "inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] == 0, engine.run("podman", "logs", container).stderr
        assert took < (10 if emulated else 2)
    finally:
        engine.run("podman", "rm", "--force", container, check=False)


def wait_until_healthy(engine: Engine, container: str, image: str) -> None:
    """Run the image's health check in the container until it succeeds."""
    healthcheck = json.loads(engine.run("podman", "inspect", image).stdout)[0]["Healthcheck"]["Test"]
    assert healthcheck[0] == "CMD"
    done: subprocess.CompletedProcess[str]
    until = time.monotonic() + 30
    while (done := engine.run("podman", "exec", container, *healthcheck[1:], check=False)).returncode:
        assert time.monotonic() < until, done.stderr + engine.run("podman", "logs", container).stderr
        time.sleep(0.5)
