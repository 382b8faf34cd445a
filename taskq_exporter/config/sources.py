"""What a configuration comes to: sources with their adapters and options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from taskq_exporter.adapters import Adapter
from taskq_exporter.api import NameFilter, Options, Source
from taskq_exporter.config.mistakes import ConfigError
from taskq_exporter.config.modules import ModuleConfig
from taskq_exporter.config.secretfiles import FileSecret, dump, read_secret
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.counts.names import Names
from taskq_exporter.credentials import without_credentials
from taskq_exporter.ledger import SourceLedger
from taskq_exporter.log import keep_secret
from taskq_exporter.runtime.targets import Target, parse_allowed

if TYPE_CHECKING:
    from taskq_exporter.compat.mapping import MappedFamily

__all__ = [
    "Config",
    "ConfigError",
    "ConfiguredSource",
    "Module",
    "TeamFile",
    "keep_secrets",
    "make_ledger",
    "make_source",
]


@dataclass(frozen=True, slots=True)
class ConfiguredSource:
    """A source with its adapter and the adapter's options."""

    config: SourceConfig
    adapter: Adapter
    options: Options
    where: str = ""  # FILE:LINE:COLUMN of its URL, for messages
    read_url: Callable[[], str] | None = None  # instead of the URL that is configured

    def fingerprint(self) -> str:
        """What its checkpoint counts; it changes when another server, adapter, option or label is counted."""
        c = self.config
        where = without_credentials(c.url) if c.url else str(c.url_file)
        what: list[Any] = [c.name, c.adapter, where, dump(self.options), c.bounds().model_dump(), c.task_labels]
        what += [entry.model_dump() for entry in c.compat]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()

    def mapped(self) -> tuple[MappedFamily, ...]:
        """The families that it shows under other names."""
        if not self.config.compat:
            return ()
        from taskq_exporter.compat.mapping import mapped_families  # a start without any needs none of it

        return mapped_families(self.config.compat, self.options)

    def connects_as(self, other: ConfiguredSource) -> bool:
        """Whether the adapter is given the same of both, credentials and filters included."""
        mine, theirs = (replace(make_source(one), url=str) for one in (self, other))
        return mine == theirs and (self.config.url, self.read_url) == (other.config.url, other.read_url)


@dataclass(frozen=True, slots=True)
class Module:
    """A module with the source that its targets become."""

    name: str
    config: ModuleConfig
    template: ConfiguredSource

    def allows(self, target: Target) -> bool:
        """Whether the configuration has a glob for this target."""
        return any(parse_allowed(glob).matches(target) for glob in self.config.allow)

    def source(self, target: Target) -> ConfiguredSource:
        """The source that watches a target, named as the target is written."""
        named = self.template.config.model_copy(update={"name": str(target), "url": str(target)})
        c = self.config
        return replace(self.template, config=named, read_url=_TargetUrl(target, c.username, c.password, c.query))


@dataclass(frozen=True, slots=True)
class _TargetUrl:
    """Reads the URL of a target; equal to another one that makes the same of it."""

    target: Target
    username: str
    password: SecretStr | None
    query: Mapping[str, str]

    def __call__(self) -> str:
        password = self.password.get_secret_value() if self.password is not None else ""
        url = self.target.url(self.username, password, self.query)
        keep_secret(url)
        return url


@dataclass(frozen=True, slots=True)
class TeamFile:
    """One file of sources_dir."""

    path: Path
    sources: tuple[ConfiguredSource, ...] = ()
    error: str = ""  # why it is bad: a line for each mistake


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration."""

    sources: tuple[ConfiguredSource, ...] = ()  # those of `files` too
    state_dir: Path | None = None
    files: tuple[TeamFile, ...] = ()
    modules: tuple[Module, ...] = ()


def make_source(configured: ConfiguredSource) -> Source:
    """What the adapter is given of a source."""
    c = configured.config
    return Source(
        name=c.name,
        adapter=c.adapter,
        url=configured.read_url or partial(_read_url, c),
        options=configured.options,
        timeout=c.timeout,
        queues=NameFilter(c.queues.include, c.queues.exclude, c.queues.expected),
        tasks=NameFilter(c.tasks.include, c.tasks.exclude),
        worker_ttl=c.worker_ttl,
        queue_ttl=c.queue_ttl,
        disabled=frozenset(c.disable),
        wanted=frozenset(rule.family for family in configured.mapped() for rule in family.rules),
    )


def make_ledger(
    configured: ConfiguredSource,
    mapped: Sequence[MappedFamily],
    source: Source,
    names: Names,
    clock: Callable[[], float],
) -> SourceLedger:
    """The ledger of a source."""
    c, bounds = configured.config, configured.config.bounds()
    make: Callable[..., SourceLedger] = SourceLedger
    if mapped:
        from taskq_exporter.compat.ledger import MappedLedger

        make = partial(MappedLedger, mapped)
    return make(
        names,
        clock,
        run_bounds=bounds.run,
        wait_bounds=bounds.wait,
        task_labels=c.task_labels,
        queues=source.queues,
        tasks=source.tasks,
        series_ttl=c.series_ttl,
        label_sets=c.label_sets(),
        own=configured.adapter.families,
    )


def keep_secrets(options: BaseModel) -> None:
    """Keep the secrets among an adapter's own options, which are of type SecretStr, out of all that is logged."""
    for _, value in options:
        if isinstance(value, BaseModel):
            keep_secrets(value)
        elif isinstance(value, SecretStr) and not isinstance(value, FileSecret):
            keep_secret(value.get_secret_value(), bare=True)


def _read_url(config: SourceConfig) -> str:
    return read_secret(config.url_file, "url_file") if config.url_file is not None else config.url or ""
