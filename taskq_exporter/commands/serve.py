"""Without a command: serve metrics until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import Sequence

import structlog

from taskq_exporter.adapters import Adapters
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.commands import listening
from taskq_exporter.commands.common import UsageError, file_config, run_loop
from taskq_exporter.commands.page_flags import add_page_arguments, page_options
from taskq_exporter.config.environment import detect
from taskq_exporter.config.load import load_config
from taskq_exporter.config.shard import Shard
from taskq_exporter.config.sources import Config, ConfigError
from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.background import Background
from taskq_exporter.runtime.reload import Reloader
from taskq_exporter.telemetry import tracing
from taskq_exporter.web.app import make_app
from taskq_exporter.web.keys import Lifecycle
from taskq_exporter.web.server import ListenError, Server
from taskq_exporter.web.webconfig import WebConfigFile

__all__ = ["add_arguments", "run", "serve"]

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
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="let POST /-/reload reload, as SIGHUP does",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        default=Shard(),
        help="watch only share I (from 0) of N; hostname/N takes I from the end of the host's name",
    )


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
    return run_loop(serve(arguments, adapters, addresses, web_config))


def _check(arguments: argparse.Namespace, adapters: Adapters) -> int:
    if arguments.config_file is None and arguments.web_config is None:
        raise UsageError("--config.check needs --config.file=FILE, --web.config.file=FILE or both")
    if arguments.config_file is not None:
        config = load_config(arguments.config_file, adapters)
        if bad := [file.error for file in config.files if file.error]:
            raise ConfigError("\n".join(bad))
        mine = sum(arguments.shard.has(source.config.name) for source in config.sources)
        share = f", {mine} of them in shard {arguments.shard}" if arguments.shard.count > 1 else ""
        n = len(config.sources)
        print(f"{arguments.config_file}: good, {n} source{'' if n == 1 else 's'}{share}")
    if listening.web_config(arguments) is not None:
        print(f"{arguments.web_config}: good")
    return 0


async def serve(
    arguments: argparse.Namespace,
    adapters: Adapters,
    addresses: Sequence[tuple[str, int]],
    web_config: WebConfigFile | None,
    given: Config | None = None,
) -> int:
    """Serve until told to stop: what is `given`, else what the configuration file or the environment names.

    Returns the exit status. Raises ConfigError and UsageError.
    """
    config = given or file_config(arguments, adapters)
    tracing.start()
    exporter = Exporter(_open_state(config))
    exporter.self_metrics.config_loaded()
    exporter.self_metrics.process = arguments.process_metrics
    reloader = None
    if config is not None and given is None:
        reloader = Reloader(exporter, arguments.config_file, config, adapters, arguments.shard)
    lifecycle = Lifecycle(reloader, adapters, arguments.lifecycle)
    app = make_app(exporter, arguments.path, page_options(arguments), lifecycle)
    server = Server(app, addresses, web_config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    background = Background()

    def reload() -> None:
        if reloader is None:
            log.info("nothing to reload: the sources come from the environment")
            return
        background.start(reloader.reload_by_signal())

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        if reloader is not None:
            reloader.start()  # before anybody can ask whether it is ready
        for source in given.sources if given is not None else ():
            exporter.add(source)
        try:
            await server.start()
        except ListenError as error:
            raise UsageError(str(error)) from None
        exporter.start_timer()
        # not ready before each source has succeeded or failed once, whether or not somebody scrapes
        background.start(exporter.gather() if config else _find(exporter, adapters, arguments.shard))
        await stop.wait()
        log.info("stopping")
        stop.clear()
        await server.drain(arguments.shutdown_delay, hurry=stop)
    finally:
        for task in background:
            task.cancel()
        await server.stop()
        await exporter.close()
        await tracing.stop()
    return 0


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text, socket.gethostname())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _open_state(config: Config | None) -> StateDir | None:
    if config is None or config.state_dir is None:
        return None
    try:
        return StateDir(config.state_dir)
    except BlockingIOError:
        raise UsageError(f"state.dir {config.state_dir} is used by another taskq-exporter; give each its own") from None
    except OSError as error:
        raise UsageError(f"state.dir {config.state_dir} cannot be written: {error.strerror or error}") from None


async def _find(exporter: Exporter, adapters: Adapters, shard: Shard) -> None:
    """Look for sources in the environment, again and again for the adapters that have none."""
    failing: dict[str, str] = {}
    while True:
        having = {runner.adapter.name for runner in exporter.runners.values()}
        found = [s for s in await detect(adapters, os.environ, failing, skip=having) if shard.has(s.config.name)]
        for source in found:
            exporter.add(source)
        if found:
            await exporter.gather()
        await asyncio.sleep(DETECT_SELDOM if exporter.runners else DETECT_EVERY)
