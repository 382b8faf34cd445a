"""The configuration: a YAML file into sources; every error with its place and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from taskq_exporter.adapters import Adapters
from taskq_exporter.reading import Reader
from taskq_exporter.sources import Config, ConfigError
from taskq_exporter.yamlpos import YamlError, load

__all__ = ["load_config"]


def load_config(path: Path, adapters: Adapters, env: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration file. Raises ConfigError with every mistake in it."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}:1:1: not valid YAML: the file is not UTF-8") from None
    try:
        document = load(text)
    except YamlError as error:
        raise ConfigError(
            "\n".join(f"{path}:{p.line}:{p.column}: {message}" for p, message in error.problems)
        ) from None
    return Reader(path, document, adapters, env).read()
