"""The configuration: YAML files into sources; every error with its place and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.mistakes import ConfigError, read_yaml
from taskq_exporter.config.reading import Reader
from taskq_exporter.config.sources import Config, TeamFile

if TYPE_CHECKING:
    from taskq_exporter.compat.mapping import MappedFamily

__all__ = ["load_config"]


def load_config(
    path: Path, adapters: Adapters, env: Mapping[str, str] = os.environ, before: Config | None = None
) -> Config:
    """Read a configuration file and the files of its sources_dir.

    A bad one of these drops only itself: the sources that it had `before` stay. Raises ConfigError with every mistake
    in the main file.
    """
    reader = Reader(path, read_yaml(path), adapters, env)
    main = reader.read()
    config = Config(main.sources, main.state_dir, modules=main.modules)
    if main.sources_dir is None:
        return config
    try:
        paths = sorted(p for p in main.sources_dir.iterdir() if _is_team_file(p))
    except OSError as error:
        raise ConfigError(
            f"{reader.place('sources_dir')}: sources_dir {main.sources_dir} cannot be read: {error.strerror}"
        ) from None
    taken = {source.config.name: path for source in config.sources}
    had = {file.path: file.sources for file in before.files} if before else {}
    for one in paths:
        mapped = [family for source in config.sources for family in source.mapped()]
        file = _read_team(one, adapters, env, main.defaults, taken, mapped)
        if file.error:
            file = replace(file, sources=tuple(s for s in had.get(one, ()) if s.config.name not in taken))
        taken.update((source.config.name, one) for source in file.sources)
        config = replace(config, sources=config.sources + file.sources, files=(*config.files, file))
    return config


def _is_team_file(path: Path) -> bool:
    """Kubernetes mounts each file as a link into a hidden folder, and editors leave hidden files."""
    return path.suffix in (".yaml", ".yml") and not path.name.startswith(".") and not path.is_dir()


def _read_team(
    path: Path,
    adapters: Adapters,
    env: Mapping[str, str],
    defaults: Mapping[str, Any],
    taken: Mapping[str, Path],
    mapped: list[MappedFamily],
) -> TeamFile:
    try:
        return TeamFile(path, Reader(path, read_yaml(path), adapters, env).read_team(defaults, taken, mapped))
    except ConfigError as error:
        return TeamFile(path, error=str(error))
