"""What a configuration comes to: sources with their adapters and options."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from taskq_exporter.adapters import Adapter
from taskq_exporter.api import AdapterError, NameFilter, Options, Reason, Source
from taskq_exporter.credentials import without_credentials
from taskq_exporter.log import keep_secret
from taskq_exporter.mistakes import ConfigError
from taskq_exporter.settings import SourceConfig

__all__ = ["Config", "ConfigError", "ConfiguredSource", "keep_secrets", "make_source"]


@dataclass(frozen=True, slots=True)
class ConfiguredSource:
    """A source with its adapter and the adapter's options."""

    config: SourceConfig
    adapter: Adapter
    options: Options
    where: str = ""  # FILE:LINE:COLUMN of its URL, for messages

    def fingerprint(self) -> str:
        """What its checkpoint counts; it changes when another server, adapter, option or label is counted."""
        c = self.config
        where = without_credentials(c.url) if c.url else str(c.url_file)
        what = [c.name, c.adapter, where, self.options.model_dump(mode="json"), c.buckets.model_dump(), c.task_labels]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration."""

    sources: tuple[ConfiguredSource, ...] = ()
    state_dir: Path | None = None


def make_source(configured: ConfiguredSource) -> Source:
    """What the adapter is given of a source."""
    c = configured.config
    return Source(
        name=c.name,
        adapter=c.adapter,
        url=partial(_read_url, c),
        options=configured.options,
        timeout=c.timeout,
        queues=NameFilter(c.queues.include, c.queues.exclude, c.queues.expected),
        tasks=NameFilter(c.tasks.include, c.tasks.exclude),
        worker_ttl=c.worker_ttl,
        queue_ttl=c.queue_ttl,
        disabled=frozenset(c.disable),
    )


def keep_secrets(options: Options) -> None:
    """Keep the passwords in an adapter's own URLs, which are options of type SecretStr, out of all that is logged."""
    for _, value in options:
        if isinstance(value, SecretStr):
            keep_secret(value.get_secret_value())


def _read_url(config: SourceConfig) -> str:
    if config.url_file is None:
        return config.url or ""
    try:
        url = config.url_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterError(
            Reason.AUTH,
            f"url_file {config.url_file} cannot be read: {type(error).__name__}; check the mount and its rights",
        ) from None
    keep_secret(url)  # it may have a new password at each connect
    return url
