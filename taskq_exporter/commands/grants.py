"""`grants`: the rights that the sources' users need."""

from __future__ import annotations

import argparse
import sys

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError
from taskq_exporter.commands.common import configured_sources, run_loop
from taskq_exporter.config.sources import make_source
from taskq_exporter.log import redact

__all__ = ["HELP", "add_arguments", "run"]

HELP = "the rights that each source's user needs, as a Redis ACL line or SQL"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print the grants of each source; returns 1 where one cannot be said."""
    status = 0
    for configured in run_loop(configured_sources(arguments, Adapters())):
        where, name = configured.where, configured.config.name
        try:
            text = configured.adapter.grants(make_source(configured))
        except AdapterError as error:
            print(redact(f"{where or name}: source {name!r}: {error.reason.value}: {error}"), file=sys.stderr)
            status = 1
            continue
        print(f"# {configured.config.name} ({configured.adapter.name})")
        print(
            text.strip() if text is not None else "# this adapter prints no grants: its README says what it needs",
            end="\n\n",
        )
    return status
