"""docker-compose.yml and what it mounts: as text, and running, with stand-ins for the images of others."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import ROOT, Engine, free_port, need_networks, unavailable

from taskq_exporter.testing.environments import python_with

DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def run(*command: str | Path, **env: str) -> None:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder with hadolint, check-jsonschema and podman-compose."""
    return python_with(Path(__file__).with_name("requirements-image.txt")).parent


@pytest.fixture(scope="module")
def mixin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service mixin writes."""
    folder = tmp_path_factory.mktemp("mixin")
    flags = load(COMPOSE)["services"]["mixin"]["command"][2:]
    run(sys.executable, "-m", "taskq_exporter", "mixin", "--dir", folder, *flags)
    return folder


def test_dockerfiles_are_clean(tools: Path) -> None:
    run(tools / "hadolint", ROOT / "Dockerfile", DEPLOY / "celery" / "Dockerfile")


def test_it_is_a_compose_file(tools: Path) -> None:
    run(tools / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_everything_fits_together(mixin: Path) -> None:
    compose = load(COMPOSE)
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            assert (ROOT / source).is_file() if source.startswith(".") else source in compose["volumes"], name
            assert target.startswith("/")
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"
    grafana = compose["services"]["grafana"]
    where = {volume.split(":")[0]: Path(volume.split(":")[1]) for volume in grafana["volumes"]}["mixin"]
    (provider,) = load(DEPLOY / "grafana" / "dashboards.yaml")["providers"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (mixin / home.relative_to(where)).is_file()
    (source,) = load(DEPLOY / "grafana" / "datasources.yaml")["datasources"]
    interval = load(DEPLOY / "prometheus.yml")["global"]["scrape_interval"]
    assert (source["isDefault"], source["jsonData"]["timeInterval"]) == (True, interval)
    assert source["url"].startswith("http://prometheus:")


def test_the_exporter_takes_its_configuration() -> None:
    flags = [f"--config.file={DEPLOY / 'exporter.yaml'}", "--config.check"]
    run(sys.executable, "-m", "taskq_exporter", *flags, CELERY_BROKER_URL="redis://redis:6379/0")


def test_prometheus_takes_its_configuration_and_the_rules(mixin: Path, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        unavailable("promtool is not installed (Debian: apt install prometheus)")
    shutil.copy(DEPLOY / "prometheus.yml", tmp_path)
    shutil.copytree(mixin, tmp_path / "mixin")
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    found = f"{len(list(mixin.glob('*.yaml')))} rule files found"
    assert (done.returncode, found in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.fixture
def running(
    engine: Engine, image: str, stand_in: str, shop: str, tools: Path, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The services but Grafana; the addresses of exporter and Prometheus."""
    need_networks()
    compose = load(COMPOSE)
    services = compose["services"]
    del services["grafana"]
    for name, service in services.items():
        service.pop("build", None)
        service["image"] = {"redis": stand_in, "prometheus": stand_in, "worker": shop}.get(name, image)
        service["healthcheck"] = {"disable": True}  # without systemd nobody runs them
        service["volumes"] = [volume.replace("./", f"{ROOT}/", 1) for volume in service.get("volumes", ())]
        for need in service.get("depends_on", {}).values():
            need["condition"] = need["condition"].replace("service_healthy", "service_started")
    services["redis"]["command"] = ["redis-server", "--protected-mode", "no"]
    flags = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
    services["prometheus"]["command"] = ["prometheus", *flags]
    addresses = []
    for name in ("exporter", "prometheus"):
        addresses.append(f"127.0.0.1:{free_port()}")
        services[name]["ports"] = [f"{addresses[-1]}:{services[name]['ports'][0].rpartition(':')[2]}"]
    (tmp_path / "docker-compose.yml").write_text(yaml.safe_dump(compose))
    project = f"taskq{secrets.token_hex(4)}"
    command = [tools / "podman-compose", "--project-name", project, "--file", tmp_path / "docker-compose.yml"]
    try:
        engine.run(*command, "up", "--detach", "--no-build", seconds=180)
        yield addresses[0], addresses[1]
        print(engine.run(*command, "ps", check=False).stdout)
    finally:
        engine.run(*command, "down", "--volumes", "--timeout", "5", check=False)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_it_runs(running: tuple[str, str]) -> None:
    exporter, prometheus = running
    assert wait_for(f"http://{exporter}/api/sources", lambda found: found["sources"][0]["state"] == "up")
    done = 'sum(taskq_tasks_finished_total{source="shop",queue="orders",outcome="succeeded"}) > 0'
    for query in ('taskq_source_up{source="shop"} == 1', done, 'taskq:queue_ready:sum{source="shop",queue="emails"}'):
        asked = urllib.parse.urlencode({"query": query})
        url = f"http://{prometheus}/api/v1/query?{asked}"
        assert wait_for(url, lambda found: found["data"]["result"]), query


def wait_for(url: str, wanted: Any) -> Any:
    """What is wanted of a JSON document, as soon as there is some."""
    seen: object = None
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                seen = json.load(response)
            if found := wanted(seen):
                return found
        except OSError as error:
            seen = error
        time.sleep(0.5)
    return pytest.fail(f"{url}: {seen}")
