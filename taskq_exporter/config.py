"""The configuration: a YAML file into sources; every error with its place and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from taskq_exporter.adapters import Adapters
from taskq_exporter.mistakes import read_yaml
from taskq_exporter.reading import Reader
from taskq_exporter.sources import Config

__all__ = ["load_config"]


def load_config(path: Path, adapters: Adapters, env: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration file. Raises ConfigError with every mistake in it."""
    return Reader(path, read_yaml(path), adapters, env).read()
