"""What the commands share: where the sources come from, and a loop that ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.environment import NOTHING_CONFIGURED, VARIABLES, detect
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import Config, ConfiguredSource
from taskq_exporter.log import keep_secret, redact

__all__ = ["UsageError", "configured_sources", "file_config", "run_loop"]

log = structlog.get_logger("taskq_exporter")

_T = TypeVar("_T")

#: Seconds that tasks may take to end when everything else has.
LAST_TASKS = 2.0


class UsageError(Exception):
    """Something in the flags or the environment that the user can mend."""


def file_config(arguments: argparse.Namespace, adapters: Adapters) -> Config | None:
    """The configuration file, if one is given. Raises ConfigError, or UsageError where there is nothing to watch."""
    if arguments.config_file is None:
        for variable in VARIABLES:
            keep_secret(os.environ.get(variable, ""))
        if not any(os.environ.get(variable) for variable in VARIABLES):
            raise UsageError(NOTHING_CONFIGURED)
        return None
    return load_config(arguments.config_file, adapters)


async def configured_sources(
    arguments: argparse.Namespace, adapters: Adapters, failing: dict[str, str] | None = None
) -> Sequence[ConfiguredSource]:
    """The sources of the configuration file, else those that the environment names. Raises as file_config."""
    config = file_config(arguments, adapters)
    if config is not None:
        for file in config.files:
            if file.error:
                print(redact(file.error), file=sys.stderr)
        return config.sources
    failing = {} if failing is None else failing
    found = await detect(adapters, os.environ, failing)
    if not found:
        what = "the log says why not all could be searched" if failing else "start a worker, or configure one"
        raise UsageError(f"no queue was found at the servers that the environment names; {what}")
    return found


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """As asyncio.run, which would wait for ever for a task that does not end when it is cancelled."""
    runner = asyncio.Runner()
    try:
        return runner.run(main)
    finally:
        loop = runner.get_loop()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks and loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_TASKS))[1]:
            log.warning("leaving what does not end", tasks=len(tasks))
            loop.set_exception_handler(lambda *_: None)  # else asyncio complains of each at the exit
        else:
            runner.close()
