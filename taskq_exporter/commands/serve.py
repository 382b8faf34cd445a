"""Without a command: serve metrics until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import Any

import structlog

from taskq_exporter.adapters import Adapters
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.commands.common import UsageError, file_config, run_loop
from taskq_exporter.commands.page_flags import add_page_arguments, page_options
from taskq_exporter.config import load_config
from taskq_exporter.environment import detect
from taskq_exporter.exporter import Exporter
from taskq_exporter.sources import Config
from taskq_exporter.web.app import Server

__all__ = ["DEFAULT_ADDRESS", "add_arguments", "run"]

log = structlog.get_logger("taskq_exporter")

DEFAULT_ADDRESS = ":9540"
#: Seconds between looks for queues in the environment while there are none.
DETECT_EVERY = 10.0
#: The same where there are some.
DETECT_SELDOM = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of the server."""
    parser.add_argument(
        "--config.check", dest="config_check", action="store_true", help="check the configuration and exit"
    )
    parser.add_argument(
        "--web.listen-address", dest="listen", metavar="HOST:PORT", help=f"default {DEFAULT_ADDRESS}, all interfaces"
    )
    parser.add_argument(
        "--web.telemetry-path", dest="path", default="/metrics", metavar="PATH", help="default /metrics"
    )
    add_page_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve, or check the configuration; returns the exit status."""
    adapters = Adapters()
    if arguments.config_check:
        if arguments.config_file is None:
            raise UsageError("--config.check needs --config.file=FILE")
        config = load_config(arguments.config_file, adapters)
        print(f"{arguments.config_file}: good, {len(config.sources)} sources")
        return 0
    host, port = _address(arguments.listen)
    if not arguments.path.startswith("/"):
        raise UsageError("--web.telemetry-path must begin with /")
    if arguments.path.startswith("/-/") or set(arguments.path) & set("{}?#% "):
        raise UsageError("--web.telemetry-path must be a plain path like /metrics, and not below /-/")
    return run_loop(_run_server(arguments, adapters, host, port))


async def _run_server(arguments: argparse.Namespace, adapters: Adapters, host: str, port: int) -> int:
    config = file_config(arguments, adapters)
    exporter = Exporter(_open_state(config))
    exporter.self_metrics.config_loaded()
    exporter.self_metrics.process = arguments.process_metrics
    server = Server(exporter, host, port, arguments.path, page_options(arguments))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[Any]] = set()
    try:
        try:
            await server.start()
        except (OSError, UnicodeError) as error:  # the second: no host can have such a name
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot listen on {host}:{port}: {why}") from None
        for source in config.sources if config else ():
            exporter.add(source)
        exporter.start_timer()
        # not ready before each source has succeeded or failed once, whether or not somebody scrapes
        tasks.add(asyncio.create_task(exporter.gather() if config else _find(exporter, adapters)))
        await stop.wait()
        log.info("stopping")
    finally:
        for task in tasks:
            task.cancel()
        await server.stop()
        await exporter.close()
    return 0


def _open_state(config: Config | None) -> StateDir | None:
    if config is None or config.state_dir is None:
        return None
    try:
        return StateDir(config.state_dir)
    except BlockingIOError:
        raise UsageError(f"state.dir {config.state_dir} is used by another taskq-exporter; give each its own") from None
    except OSError as error:
        raise UsageError(f"state.dir {config.state_dir} cannot be written: {error.strerror or error}") from None


async def _find(exporter: Exporter, adapters: Adapters) -> None:
    """Look for sources in the environment, again and again for the adapters that have none."""
    failing: dict[str, str] = {}
    while True:
        having = {runner.adapter.name for runner in exporter.runners.values()}
        found = await detect(adapters, os.environ, failing, skip=having)
        for source in found:
            exporter.add(source)
        if found:
            await exporter.gather()
        await asyncio.sleep(DETECT_SELDOM if exporter.runners else DETECT_EVERY)


def _address(listen: str | None) -> tuple[str, int]:
    """Host ("" for all) and port of the flag, else of METRICS_HOST and METRICS_PORT, else the default."""
    if listen is None:
        listen = f"{os.environ.get('METRICS_HOST', '')}:{os.environ.get('METRICS_PORT', '') or DEFAULT_ADDRESS[1:]}"
        what = "METRICS_HOST and METRICS_PORT"
    else:
        what = "--web.listen-address"
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{what}: {listen!r} is not HOST:PORT, e.g. :9540 or 127.0.0.1:9540")
    return host.removeprefix("[").removesuffix("]"), int(port)
