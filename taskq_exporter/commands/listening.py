"""Where the server listens, how it is protected, and how long it drains: the flags for it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from taskq_exporter.commands.common import UsageError
from taskq_exporter.config.durations import duration
from taskq_exporter.web.webconfig import WebConfigFile

__all__ = ["DEFAULT_ADDRESS", "add_arguments", "addresses", "web_config"]

DEFAULT_ADDRESS = ":9540"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        action="append",
        metavar="HOST:PORT",
        help=f"default {DEFAULT_ADDRESS}, all interfaces; may be given several times",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help="TLS, users, headers and rate limit, in the format of Prometheus' exporters",
    )
    parser.add_argument(
        "--web.shutdown-delay",
        dest="shutdown_delay",
        type=_delay,
        default=0.0,
        metavar="DURATION",
        help="be not ready, and go on serving, for so long before stopping; default 0s",
    )


def web_config(arguments: argparse.Namespace) -> WebConfigFile | None:
    """The web configuration file, where one is given. Raises ConfigError."""
    return WebConfigFile(arguments.web_config) if arguments.web_config is not None else None


def addresses(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """Host ("" for all) and port of each flag, else of METRICS_HOST and METRICS_PORT, else the default."""
    if arguments.listen:
        return [_address("--web.listen-address", listen) for listen in arguments.listen]
    listen = f"{os.environ.get('METRICS_HOST', '')}:{os.environ.get('METRICS_PORT', '') or DEFAULT_ADDRESS[1:]}"
    return [_address("METRICS_HOST and METRICS_PORT", listen)]


def _address(what: str, listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{what}: {listen!r} is not HOST:PORT, e.g. :9540 or 127.0.0.1:9540")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _delay(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
