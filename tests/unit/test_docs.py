from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.metrics_core import METRIC_TYPES

from taskq_exporter import cli
from taskq_exporter.api import AdapterSpec
from taskq_exporter.exporter import Exporter
from taskq_exporter.schema import FAMILIES
from taskq_exporter.web.app import make_app

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
CELERY_EXPORTER = ROOT / "docs" / "migration-celery-exporter.md"


def test_the_generated_pages_are_current() -> None:
    check = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_names_follow_the_rules(family: object) -> None:
    name, kind, labels = family.name, family.kind, family.labels  # type: ignore[attr-defined]
    assert kind in METRIC_TYPES
    assert name.startswith("taskq_")
    assert name.endswith("_total") == (kind == "counter")
    assert not {*labels} & {"job", "instance", "target", "type", "cluster", "service", "source", "le", "quantile"}
    assert "_ms" not in name


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag of a parser and of its commands."""
    found = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            found.update(flag for command in action.choices.values() for flag in flags(command))
    return found


def test_the_operators_page_names_every_flag() -> None:
    text = OPERATIONS.read_text("utf-8") + CELERY_EXPORTER.read_text("utf-8")  # which has those of the other one
    assert [flag for flag in sorted(flags(cli.parser())) if f"`{flag}" not in text] == []


def test_the_operators_page_names_every_variable() -> None:
    code = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "taskq_exporter").rglob("*.py") if "testing" not in path.parts
    )
    read = set(re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)", code)) | set(
        re.findall(r'"(TASKQ_[A-Z_]+|TRACING_[A-Z_]+|[A-Z]+_URL)"', code)
    )
    assert read, "nothing reads the environment?"
    text = OPERATIONS.read_text("utf-8")
    assert [name for name in sorted(read - {"HOSTNAME", "TERM", "COLUMNS", "LINES"}) if name not in text] == []


async def test_the_operators_page_names_every_route() -> None:
    exporter = Exporter()
    routes = {str(route.resource.canonical) for route in make_app(exporter).router.routes() if route.resource}
    text = OPERATIONS.read_text("utf-8")
    shown = {route.split("{")[0].rstrip("/") for route in routes} - {"", "/-/page.css", "/-/page.js", "/-/page.svg"}
    assert [route for route in sorted(shown) if f"`{route}" not in text] == []
    await exporter.close()


def test_the_page_on_adapters_names_every_hook() -> None:
    text = (ROOT / "docs" / "adapters.md").read_text("utf-8")
    hooks = [name for name in vars(AdapterSpec) if not name.startswith("_")]
    assert [hook for hook in hooks if f"`{hook}" not in text] == []


@pytest.mark.parametrize(
    "page", ["configuration.md", *(f"adapters/{p.name}" for p in (ROOT / "docs" / "adapters").iterdir())]
)
def test_every_option_says_what_it_is(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]* \| ([^|]*) \|$", text, re.MULTILINE)
    assert [name for name, meaning in rows if not meaning.strip()] == []
