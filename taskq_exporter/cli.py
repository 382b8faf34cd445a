"""The command line: serving, the core's commands, and those that plugins bring."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from taskq_exporter import __version__
from taskq_exporter.adapters import installed
from taskq_exporter.commands import serve
from taskq_exporter.commands.common import UsageError
from taskq_exporter.config.sources import ConfigError
from taskq_exporter.log import configure, redact

__all__ = ["main", "parser"]

COMMANDS_GROUP = "taskq_exporter.commands"
CORE_COMMANDS = ("once", "check", "top", "adapters", "grants", "mixin", "healthcheck")


def main(argv: Sequence[str] | None = None) -> int:
    """Run taskq-exporter; returns the exit status: 0, or 1 with a message that says what to do."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser(argv).parse_args(argv)
    configure(arguments.log_level, arguments.log_format)
    try:
        return int(arguments.run(arguments))
    except (ConfigError, UsageError) as error:
        print(redact(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read the page has enough of it
        return 1


def parser(argv: Sequence[str] = ("--help",)) -> argparse.ArgumentParser:
    """All flags and commands, also those that plugins bring.

    Only commands that `argv` names, or all for its --help, are imported: the server starts without them.
    """
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="YAML configuration",
    )
    common.add_argument(
        "--log.level",
        dest="log_level",
        choices=("debug", "info", "warn", "error"),
        default=argparse.SUPPRESS,
        help="default info",
    )
    common.add_argument(
        "--log.format", dest="log_format", choices=("logfmt", "json"), default=argparse.SUPPRESS, help="default logfmt"
    )
    flags = argparse.ArgumentParser(
        prog="taskq-exporter",
        description="Prometheus exporter for task queues. Without a command it serves metrics.",
        parents=[common],
        allow_abbrev=False,
    )
    flags.set_defaults(run=serve.run, config_file=None, log_level="info", log_format="logfmt")
    flags.add_argument("--version", action="version", version=f"taskq-exporter {__version__}")
    serve.add_arguments(flags)
    commands = flags.add_subparsers(metavar="COMMAND", title="commands")
    points = installed(COMMANDS_GROUP)
    helped = not {"-h", "--help"}.isdisjoint(argv)
    for name in (*CORE_COMMANDS, *points):
        if not helped and name not in argv:
            commands.add_parser(name)  # so that a mistake is told what there is
            continue
        module = _load(name, points)
        if module is None:
            continue
        command = commands.add_parser(
            name, help=module.HELP, description=module.HELP, parents=[common], allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return flags


def _load(name: str, points: Mapping[str, EntryPoint]) -> Any:
    """The module of a command; None where that of a plugin is broken, which must not stop the others."""
    if name not in points:
        return import_module(f"taskq_exporter.commands.{name}")
    try:
        return points[name].load()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it
        print(f"command {name} does not load: {type(error).__name__}: {error}", file=sys.stderr)
        return None
