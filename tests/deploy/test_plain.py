"""What image, chart and project say of themselves, read as text: no container engine and no helm."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from taskq_exporter.commands.listening import DEFAULT_ADDRESS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "taskq-exporter"


def load(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_versions_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert load(CHART / "Chart.yaml")["appVersion"] == project["version"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in (ROOT / "Dockerfile").read_text()
    for plugin in ROOT.glob("plugins/*/pyproject.toml"):
        assert tomllib.loads(plugin.read_text())["project"]["version"] == project["version"], plugin


def test_port_and_user_are_one() -> None:
    port = int(DEFAULT_ADDRESS.removeprefix(":"))
    values, dockerfile = load(CHART / "values.yaml"), (ROOT / "Dockerfile").read_text()
    assert values["service"]["port"] == values["containerPort"] == port
    assert f"EXPOSE {port}\n" in dockerfile
    user = values["podSecurityContext"]["runAsUser"]
    assert f"USER {user}:{user}\n" in dockerfile
    assert values["config"]["state"]["dir"] in dockerfile


def test_every_value_that_a_template_names_has_a_default() -> None:
    values = load(CHART / "values.yaml")
    names = {name for file in CHART.glob("templates/*") for name in re.findall(r"\.Values\.([\w.]+)", file.read_text())}
    assert "serviceMonitor.enabled" in names
    for name in names:
        where: Any = values
        for part in name.split("."):
            assert part in where, f".Values.{name} is not in values.yaml"
            where = where[part]


def test_every_default_is_named_by_a_template() -> None:
    templates = "".join(file.read_text() for file in CHART.glob("templates/*"))
    for name in load(CHART / "values.yaml"):
        assert f".Values.{name}" in templates, f"values.yaml: {name} does nothing"
