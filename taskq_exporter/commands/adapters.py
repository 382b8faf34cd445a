"""`adapters`: what is installed."""

from __future__ import annotations

import argparse

from taskq_exporter.adapters import Adapters
from taskq_exporter.log import redact

__all__ = ["HELP", "add_arguments", "run"]

HELP = "what is installed, versions, load errors"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


def run(_arguments: argparse.Namespace) -> int:
    """Print a line for each adapter; returns 1 where one does not load."""
    rows = Adapters().describe()
    if not rows:
        print("no adapter is installed; try: pip install 'taskq-exporter[all]'")
    for name, distribution, version, error in rows:
        print(f"{name:<24}{distribution} {version}" + (f"\n    does not load: {redact(error)}" if error else ""))
    return 1 if any(error for *_, error in rows) else 0
