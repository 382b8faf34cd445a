"""The command line: serve, once, adapters, grants, and the commands that plugins bring."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import structlog

from taskq_exporter import __version__
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError
from taskq_exporter.checkpoint import StateDir
from taskq_exporter.config import Config, ConfigError, ConfiguredSource, load_config, make_source
from taskq_exporter.environment import NOTHING_CONFIGURED, VARIABLES, detect
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import configure, keep_secret, redact
from taskq_exporter.page import render
from taskq_exporter.server import Server

__all__ = ["main"]

log = structlog.get_logger("taskq_exporter")

_T = TypeVar("_T")

COMMANDS_GROUP = "taskq_exporter.commands"
DEFAULT_ADDRESS = ":9540"
#: Seconds between looks for queues in the environment while there are none.
DETECT_EVERY = 10.0
#: The same where there are some.
DETECT_SELDOM = 60.0
#: Seconds that tasks may take to end when everything else has.
LAST_TASKS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run taskq-exporter; returns the exit status: 0, or 1 with a message that says what to do."""
    arguments = _parser().parse_args(argv)
    configure(arguments.log_level, arguments.log_format)
    try:
        return int(arguments.run(arguments))
    except (ConfigError, _UsageError) as error:
        print(redact(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read the page has enough of it
        return 1


class _UsageError(Exception):
    """Something in the flags or the environment that the user can mend."""


def _parser() -> argparse.ArgumentParser:
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
    parser = argparse.ArgumentParser(
        prog="taskq-exporter",
        description="Prometheus exporter for task queues. Without a command it serves metrics.",
        parents=[common],
        allow_abbrev=False,
    )
    parser.set_defaults(run=_serve, config_file=None, log_level="info", log_format="logfmt")
    parser.add_argument("--version", action="version", version=f"taskq-exporter {__version__}")
    parser.add_argument(
        "--config.check", dest="config_check", action="store_true", help="check the configuration and exit"
    )
    parser.add_argument(
        "--web.listen-address", dest="listen", metavar="HOST:PORT", help=f"default {DEFAULT_ADDRESS}, all interfaces"
    )
    parser.add_argument(
        "--web.telemetry-path", dest="path", default="/metrics", metavar="PATH", help="default /metrics"
    )
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, run, text in (
        ("once", _once, "collect every source once, print the page; exit status 1 if a source failed"),
        ("adapters", _adapters, "what is installed, versions, load errors"),
        ("grants", _grants, "the rights that each source's user needs, as a Redis ACL line or SQL"),
    ):
        command = commands.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        command.set_defaults(run=run)
    for point in entry_points(group=COMMANDS_GROUP):
        try:
            module = point.load()
        except Exception as error:  # noqa: BLE001 - a broken plugin must not stop the other commands
            print(f"command {point.name} does not load: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        command = commands.add_parser(
            point.name, help=module.HELP, description=module.HELP, parents=[common], allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


# --- the sources


def _file_config(arguments: argparse.Namespace, adapters: Adapters) -> Config | None:
    """The configuration file, if one is given."""
    if arguments.config_file is None:
        for variable in VARIABLES:
            keep_secret(os.environ.get(variable, ""))
        if not any(os.environ.get(variable) for variable in VARIABLES):
            raise _UsageError(NOTHING_CONFIGURED)
        return None
    return load_config(arguments.config_file, adapters)


async def _sources(
    arguments: argparse.Namespace, adapters: Adapters, failing: dict[str, str] | None = None
) -> Sequence[ConfiguredSource]:
    config = _file_config(arguments, adapters)
    if config is not None:
        return config.sources
    failing = {} if failing is None else failing
    found = await detect(adapters, os.environ, failing)
    if not found:
        what = "the log says why not all could be searched" if failing else "start a worker, or configure one"
        raise _UsageError(f"no queue was found at the servers that the environment names; {what}")
    return found


# --- commands


def _serve(arguments: argparse.Namespace) -> int:
    adapters = Adapters()
    if arguments.config_check:
        if arguments.config_file is None:
            raise _UsageError("--config.check needs --config.file=FILE")
        config = load_config(arguments.config_file, adapters)
        print(f"{arguments.config_file}: good, {len(config.sources)} sources")
        return 0
    host, port = _address(arguments.listen)
    if not arguments.path.startswith("/"):
        raise _UsageError("--web.telemetry-path must begin with /")
    if arguments.path.startswith("/-/") or set(arguments.path) & set("{}?#% "):
        raise _UsageError("--web.telemetry-path must be a plain path like /metrics, and not below /-/")
    return _run(_run_server(arguments, adapters, host, port))


async def _run_server(arguments: argparse.Namespace, adapters: Adapters, host: str, port: int) -> int:
    config = _file_config(arguments, adapters)
    exporter = Exporter(_open_state(config))
    exporter.self_metrics.config_loaded()
    server = Server(exporter, host, port, arguments.path)
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
            raise _UsageError(f"cannot listen on {host}:{port}: {why}") from None
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
        raise _UsageError(
            f"state.dir {config.state_dir} is used by another taskq-exporter; give each its own"
        ) from None
    except OSError as error:
        raise _UsageError(f"state.dir {config.state_dir} cannot be written: {error.strerror or error}") from None


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


def _once(arguments: argparse.Namespace) -> int:
    if arguments.config_file is not None:
        configure("error", arguments.log_format)  # what fails is said once, below the page
    return _run(_print_page(arguments))


async def _print_page(arguments: argparse.Namespace) -> int:
    exporter = Exporter()
    failing: dict[str, str] = {}
    try:
        for source in await _sources(arguments, Adapters(), failing):
            exporter.add(source, follow=False)
        reports = await exporter.gather()
        sys.stdout.buffer.write(await render(exporter, reports))
        sys.stdout.flush()
        for runner in exporter.runners.values() if arguments.config_file is not None else ():
            for text in runner.complaints():
                print(redact(f"{runner.configured.where}: source {runner.name!r} {text}"), file=sys.stderr)
    finally:
        await exporter.close()
    return 0 if all(report.up for report in reports) and not failing else 1


def _adapters(_arguments: argparse.Namespace) -> int:
    rows = Adapters().describe()
    if not rows:
        print("no adapter is installed; try: pip install 'taskq-exporter[all]'")
    for name, distribution, version, error in rows:
        print(f"{name:<24}{distribution} {version}" + (f"\n    does not load: {redact(error)}" if error else ""))
    return 1 if any(error for *_, error in rows) else 0


def _grants(arguments: argparse.Namespace) -> int:
    status = 0
    for configured in _run(_sources(arguments, Adapters())):
        where, name = configured.where, configured.config.name
        try:
            text = configured.adapter.grants(make_source(configured))
        except AdapterError as error:
            print(redact(f"{where or name}: source {name!r}: {error.reason.value}: {error}"), file=sys.stderr)
            status = 1
            continue
        print(f"# {configured.config.name} ({configured.adapter.name})")
        print(text.strip() if text is not None else "# this adapter does not say what rights it needs", end="\n\n")
    return status


def _run(main: Coroutine[Any, Any, _T]) -> _T:
    """As asyncio.run, which would wait for ever for a task that does not end when it is cancelled."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        try:
            return runner.run(main)
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks and loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_TASKS))[1]:
                log.warning("leaving what does not end", tasks=len(tasks))
                sys.stdout.flush()
                os._exit(0)


def _address(listen: str | None) -> tuple[str, int]:
    """Host ("" for all) and port of the flag, else of METRICS_HOST and METRICS_PORT, else the default."""
    if listen is None:
        listen = f"{os.environ.get('METRICS_HOST', '')}:{os.environ.get('METRICS_PORT', '') or DEFAULT_ADDRESS[1:]}"
        what = "METRICS_HOST and METRICS_PORT"
    else:
        what = "--web.listen-address"
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise _UsageError(f"{what}: {listen!r} is not HOST:PORT, e.g. :9540 or 127.0.0.1:9540")
    return host.removeprefix("[").removesuffix("]"), int(port)
