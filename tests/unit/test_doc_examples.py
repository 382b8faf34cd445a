"""What the documentation shows is run: configurations load, queries parse, commands have these flags."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskq_exporter import cli
from taskq_exporter.adapters import Adapters
from taskq_exporter.config.load import load_config

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    # a test of its own builds and runs the adapter of adapters.md
    *sorted(page for page in ROOT.glob("docs/*.md") if page.name != "adapters.md"),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
PROMTOOL = shutil.which("promtool")


def blocks(language: str, title: str = "") -> list[Any]:
    """Every block of a language and title, named by its page and line; one with a title is a part of something else."""
    head = f'{language} title="{title}"' if title else language
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(rf"^ *```{head}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("text", blocks("yaml"))
def test_configurations_load(text: str, tmp_path: Path) -> None:
    data = yaml.safe_load(text)
    if isinstance(data, list) and "adapter" in data[0]:
        data = {"sources": data}
    if "scrape_configs" in data:
        prometheus_takes("config", text, tmp_path)
        return
    if "groups" in data:
        prometheus_takes("rules", text, tmp_path)
        return
    data = data.get("config", data)  # a chart's values
    if not {"sources", "modules", "sources_dir"} & data.keys():
        pytest.fail("neither a configuration nor one of Prometheus: name its language otherwise")
    if "sources_dir" in data:
        (tmp_path / "teams").mkdir()
        data["sources_dir"] = str(tmp_path / "teams")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)", text), "redis://broker/0")
    load_config(path, Adapters(), variables)


@pytest.mark.parametrize("text", blocks("yaml", "values"))
def test_the_chart_knows_these_values(text: str) -> None:
    values = yaml.safe_load((ROOT / "helm" / "taskq-exporter" / "values.yaml").read_text("utf-8"))

    def known(given: Any, default: Any) -> None:
        for key, value in given.items() if isinstance(given, dict) and default else ():
            assert key in default
            known(value, default[key])

    known(yaml.safe_load(text), values)


@pytest.mark.parametrize("text", blocks("promql"))
def test_queries_parse(text: str, tmp_path: Path) -> None:
    queries = [query for query in re.split(r"\n(?=\S)", re.sub(r" +#.*", "", text)) if query.strip()]
    rules = [{"record": f"a:b{i}", "expr": query} for i, query in enumerate(queries)]
    prometheus_takes("rules", yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}), tmp_path)


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_have_these_flags(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "taskq-exporter":
            cli.parser().parse_args(words[1:])


def prometheus_takes(what: str, text: str, tmp_path: Path) -> None:
    if PROMTOOL is None:
        pytest.skip("no promtool here")
    path = tmp_path / "prometheus.yaml"
    path.write_text(text)
    flags = ["--syntax-only"] if what == "config" else []
    result = subprocess.run([PROMTOOL, "check", what, *flags, str(path)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
