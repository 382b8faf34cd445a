"""Without a command: serve metrics until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

import structlog

from taskq_exporter.adapters import Adapters
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.commands import listening
from taskq_exporter.commands.common import UsageError, file_config, run_loop
from taskq_exporter.commands.page_flags import add_page_arguments, page_options
from taskq_exporter.config import load_config
from taskq_exporter.environment import detect
from taskq_exporter.exporter import Exporter
from taskq_exporter.sources import Config
from taskq_exporter.web.app import make_app
from taskq_exporter.web.server import ListenError, Server
from taskq_exporter.webconfig import WebConfigFile

__all__ = ["add_arguments", "run"]

log = structlog.get_logger("taskq_exporter")

#: Seconds between looks for queues in the environment while there are none.
DETECT_EVERY = 10.0
#: The same where there are some.
DETECT_SELDOM = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of the server."""
    parser.add_argument(
        "--config.check", dest="config_check", action="store_true", help="check the configuration and exit"
    )
    listening.add_arguments(parser)
    parser.add_argument(
        "--web.telemetry-path", dest="path", default="/metrics", metavar="PATH", help="default /metrics"
    )
    add_page_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve, or check the configuration; returns the exit status."""
    adapters = Adapters()
    if arguments.config_check:
        return _check(arguments, adapters)
    if not arguments.path.startswith("/"):
        raise UsageError("--web.telemetry-path must begin with /")
    if arguments.path.startswith("/-/") or set(arguments.path) & set("{}?#% "):
        raise UsageError("--web.telemetry-path must be a plain path like /metrics, and not below /-/")
    addresses, web_config = listening.addresses(arguments), listening.web_config(arguments)
    return run_loop(_run_server(arguments, adapters, addresses, web_config))


def _check(arguments: argparse.Namespace, adapters: Adapters) -> int:
    if arguments.config_file is None and arguments.web_config is None:
        raise UsageError("--config.check needs --config.file=FILE, --web.config.file=FILE or both")
    if arguments.config_file is not None:
        config = load_config(arguments.config_file, adapters)
        print(f"{arguments.config_file}: good, {len(config.sources)} sources")
    if listening.web_config(arguments) is not None:
        print(f"{arguments.web_config}: good")
    return 0


async def _run_server(
    arguments: argparse.Namespace,
    adapters: Adapters,
    addresses: Sequence[tuple[str, int]],
    web_config: WebConfigFile | None,
) -> int:
    config = file_config(arguments, adapters)
    exporter = Exporter(_open_state(config))
    exporter.self_metrics.config_loaded()
    exporter.self_metrics.process = arguments.process_metrics
    server = Server(make_app(exporter, arguments.path, page_options(arguments)), addresses, web_config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[Any]] = set()
    try:
        try:
            await server.start()
        except ListenError as error:
            raise UsageError(str(error)) from None
        for source in config.sources if config else ():
            exporter.add(source)
        exporter.start_timer()
        # not ready before each source has succeeded or failed once, whether or not somebody scrapes
        tasks.add(asyncio.create_task(exporter.gather() if config else _find(exporter, adapters)))
        await stop.wait()
        log.info("stopping")
        stop.clear()
        await server.drain(arguments.shutdown_delay, hurry=stop)
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
