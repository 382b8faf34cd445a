"""`mixin`: the files that Prometheus and Grafana load."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from taskq_exporter.commands.common import UsageError
from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.guide import guide_rules
from taskq_exporter.mixin.rules import Site, alert_rules, recording_rules
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write recording rules and alerts for Prometheus, and dashboards for Grafana"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define its flags."""
    thresholds = ", ".join(f"{field.name}={field.default:g}" for field in dataclasses.fields(Thresholds))
    parser.add_argument("--dir", type=Path, required=True, help="where the files are written")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"another threshold than these: {thresholds}"
    )
    parser.add_argument("--annotations", default="team", help="annotations of sources that alerts carry; default team")
    parser.add_argument("--grafana-url", default="", metavar="URL", help="where alerts find the dashboards")
    parser.add_argument("--runbook-url", default="", metavar="URL", help="where alerts find the page docs/runbooks.md")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; returns the exit status."""
    thresholds = _thresholds(arguments.set)
    names = tuple(name.strip() for name in arguments.annotations.split(",") if name.strip())
    site = Site(grafana_url=arguments.grafana_url, runbook_url=arguments.runbook_url, annotations=names)
    files = {
        "recording-rules.yaml": recording_rules(),
        "alerts.yaml": alert_rules(thresholds, site),
        "taskq-guide-rules.yaml": guide_rules(),
    }
    texts = {name: yaml.safe_dump(content, sort_keys=False, width=1000) for name, content in files.items()}
    texts |= {f"dashboards/{board.uid}.json": json.dumps(board.json(), indent=2) + "\n" for board in DASHBOARDS}
    try:
        (arguments.dir / "dashboards").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (arguments.dir / name).write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"--dir {arguments.dir} cannot be written: {error.strerror or error}") from None
    return 0


def _thresholds(given: Sequence[str]) -> Thresholds:
    known = {field.name for field in dataclasses.fields(Thresholds)}
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise UsageError(f"--set {text}: unknown threshold {name!r}; there are {', '.join(sorted(known))}")
        try:
            values[name] = float(value)
        except ValueError:
            raise UsageError(f"--set {text}: {value!r} is not a number") from None
    return Thresholds(**values)
