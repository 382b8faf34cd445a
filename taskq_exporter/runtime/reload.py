"""Reading the configuration again: parsed aside, swapped whole; a bad one leaves the old one running."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import structlog

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.load import load_config
from taskq_exporter.config.mistakes import ConfigError
from taskq_exporter.config.shard import Shard
from taskq_exporter.config.sources import Config, ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.background import Background
from taskq_exporter.runtime.threads import in_thread

__all__ = ["Reloader"]

log = structlog.get_logger("taskq_exporter")

BAD_FILE = "a file of sources_dir is bad: what it said before holds"


class Reloader:
    """Keeps an exporter at what its configuration file says."""

    def __init__(self, exporter: Exporter, path: Path, config: Config, adapters: Adapters, shard: Shard) -> None:
        """`config` is what was loaded at the start; nothing is watched before start()."""
        self._exporter, self._path, self._adapters, self._shard = exporter, path, adapters, shard
        self._config = config
        self._lock = asyncio.Lock()
        self._looks = Background()

    @property
    def config(self) -> Config:
        """What was loaded last."""
        return self._config

    def start(self) -> None:
        """Watch what the configuration says."""
        for source in self._share(self._config):
            self._exporter.add(source)
        self._loaded(self._config)

    async def reload(self) -> str:
        """Read the files again; returns what changed, and a line for each mistake in a file of sources_dir.

        Raises ConfigError: then nothing changed.

        Calls at once come one after the other.
        """
        async with self._lock:
            try:
                config = await in_thread(partial(load_config, self._path, self._adapters, before=self._config))
                if config.state_dir != self._config.state_dir:
                    raise ConfigError(f"{self._path}: state.dir cannot change while it runs: restart, or set it back")
            except ConfigError as error:
                self._exporter.self_metrics.config_ok = False
                for line in str(error).splitlines():
                    log.error("configuration not reloaded", error=line)
                raise
            changes = await self._exporter.apply(self._share(config))
            self._config = config
            self._loaded(config)
            kinds = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
            told = {what: ", ".join(names) for what, names in kinds if names}
            log.info("configuration reloaded", **told)
            if changes.added or changes.changed:  # so that each has a state also where nobody scrapes
                self._looks.start(self._exporter.gather())
            changed = "; ".join(f"{what}: {names}" for what, names in told.items()) or "nothing changed"
            return "\n".join([changed, *(f"{BAD_FILE}: {line}" for line in _errors(config))])

    async def reload_by_signal(self) -> None:
        """The same for a caller that hears nothing: the log and the metrics say how it went."""
        try:
            await self.reload()
        except ConfigError:
            pass
        except Exception as error:
            self._exporter.self_metrics.config_ok = False
            log.error("configuration not reloaded: bug", exc_info=error)

    def _share(self, config: Config) -> list[ConfiguredSource]:
        return [source for source in config.sources if self._shard.has(source.config.name)]

    def _loaded(self, config: Config) -> None:
        self._exporter.self_metrics.config_loaded(config.files)
        for line in _errors(config):
            log.error(BAD_FILE, error=line)


def _errors(config: Config) -> list[str]:
    return [line for file in config.files for line in file.error.splitlines()]
