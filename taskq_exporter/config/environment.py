"""Sources without a configuration file: what the adapters find in the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog
from pydantic import ValidationError

from taskq_exporter.adapters import Adapter, Adapters, LoadError
from taskq_exporter.api import AdapterError
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource, keep_secrets
from taskq_exporter.log import keep_secret

__all__ = ["NOTHING_CONFIGURED", "VARIABLES", "detect"]

log = structlog.get_logger("taskq_exporter")

#: Variables that name a server.
VARIABLES = ("CELERY_BROKER_URL", "REDIS_URL", "DATABASE_URL")
#: Seconds that one adapter may look.
TIMEOUT = 10.0

NOTHING_CONFIGURED = (
    "nothing to watch: write a configuration file and give it as --config.file=FILE (see config.example.yaml),"
    " or set CELERY_BROKER_URL, REDIS_URL or DATABASE_URL"
)


async def detect(
    adapters: Adapters, env: Mapping[str, str], failing: dict[str, str] | None = None, *, skip: Collection[str] = ()
) -> list[ConfiguredSource]:
    """The sources that the installed adapters find now; an adapter that cannot look finds none, and says so.

    With `failing`, the same at each call, it says so when that begins, changes or ends, not each time. The adapters in
    `skip` are not asked.
    """
    failing = {} if failing is None else failing
    found = await asyncio.gather(*(_ask(adapters, name, env, failing) for name in adapters.names if name not in skip))
    sources: dict[str, ConfiguredSource] = {}
    for source in (source for of_adapter in found for source in of_adapter):
        if sources.setdefault(source.config.name, source) is not source:
            log.warning("two adapters found a source of one name", source=source.config.name)
    return list(sources.values())


async def _ask(
    adapters: Adapters, name: str, env: Mapping[str, str], failing: dict[str, str]
) -> list[ConfiguredSource]:
    before = failing.pop(name, "")
    try:
        adapter = adapters.get(name)
        async with asyncio.timeout(TIMEOUT):
            found = [_configure(adapter, d.name, d.url, d.options) for d in await adapter.detect(env)]
    except Exception as error:  # noqa: BLE001 - one adapter's failure must not hide what the others find
        # not its text, which may differ each time
        failing[name] = error.reason.value if isinstance(error, AdapterError) else type(error).__name__
        if failing[name] != before:
            _say(name, error)
        return []
    if before:
        log.info("can look for sources again", adapter=name)
    return found


def _say(name: str, error: Exception) -> None:
    if isinstance(error, LoadError | AdapterError | TimeoutError):
        log.warning("cannot look for sources", adapter=name, error=str(error) or type(error).__name__)
    elif isinstance(error, ValidationError):  # its text shows what was found
        log.error("bug in adapter", adapter=name, doing="detect", errors=error.error_count())
    else:
        log.error("bug in adapter", adapter=name, doing="detect", exc_info=error)


def _configure(adapter: Adapter, name: str, url: str, options: Mapping[str, object]) -> ConfiguredSource:
    keep_secret(url)
    core = {**adapter.options.core_defaults, "name": name, "adapter": adapter.name, "url": url}
    own = adapter.options.model_validate(dict(options))
    keep_secrets(own)
    return ConfiguredSource(SourceConfig.model_validate(core), adapter, own)
