"""The configuration: a YAML file, or environment variables, into sources; every error with its place and what to do."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from taskq_exporter.adapters import Adapter, Adapters, LoadError
from taskq_exporter.api import AdapterError, NameFilter, Options, Reason, Source
from taskq_exporter.credentials import without_credentials
from taskq_exporter.log import keep_secret
from taskq_exporter.schema import FAMILIES
from taskq_exporter.settings import Core, SourceConfig, StateConfig
from taskq_exporter.yamlpos import Document, Position, YamlError, load

__all__ = ["Config", "ConfigError", "ConfiguredSource", "keep_secrets", "load_config", "make_source"]

Location = tuple[str | int, ...]


class ConfigError(Exception):
    """The configuration cannot be used; `str()` is a line for each mistake, FILE:LINE:COLUMN: what to do."""


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
    return _Reader(path, document, adapters, env).read()


class _Reader:
    """Turns one document into a Config, gathering every mistake with its place."""

    def __init__(self, path: Path, document: Document, adapters: Adapters, env: Mapping[str, str]) -> None:
        self._path = path
        self._document = document
        self._adapters = adapters
        self._env = env
        self._problems: list[tuple[Position, str]] = []

    def read(self) -> Config:
        data = self._substitute(self._document.data, ())
        if not isinstance(data, dict):
            self._problem((), "the file must be a mapping with the key sources; see config.example.yaml")
            self._fail()
        self._unknown_keys(data, (), ("defaults", "state", "sources"))
        defaults = self._mapping(data, "defaults")
        if self._validate(Core, defaults, ("defaults",)) is None:
            defaults = {}  # said once, not again for each source
        self._known_families(defaults, ("defaults",), self._adapters.names)
        state = self._validate(StateConfig, self._mapping(data, "state"), ("state",))
        entries = data.get("sources")
        if not isinstance(entries, list) or not entries:
            self._problem(("sources",), "sources must be a list of at least one source with name, adapter and url")
            entries = []
        sources: list[ConfiguredSource] = []
        names: dict[str, Location] = {}
        for i, entry in enumerate(entries):
            for source in self._source(entry, ("sources", i), defaults):
                if (first := names.setdefault(source.config.name, ("sources", i))) != ("sources", i):
                    line = self._document.position((*first, "name")).line
                    self._problem(
                        ("sources", i, "name"),
                        f"source name {source.config.name!r} is used twice; it is first in line {line}",
                    )
                sources.append(source)
        self._fail()
        return Config(tuple(sources), state.dir if isinstance(state, StateConfig) else None)

    def _source(self, entry: Any, at: Location, defaults: Mapping[str, Any]) -> list[ConfiguredSource]:
        if not isinstance(entry, dict):
            self._problem(at, "a source must be a mapping with name, adapter and url")
            return []
        if isinstance(url := entry.get("url"), str):
            keep_secret(url)
        adapter = self._adapter(entry, at)
        own = {key: value for key, value in entry.items() if key not in SourceConfig.model_fields}
        core = {key: value for key, value in entry.items() if key in SourceConfig.model_fields}
        core = {**(adapter.options.core_defaults if adapter else {}), **defaults, **core}
        config = self._validate(SourceConfig, core, at)
        if adapter is not None and isinstance(url := core.get("url"), str):
            self._scheme(adapter, url, (*at, "url"))
        if adapter is None:
            return []
        self._known_families(entry, at, [adapter.name])
        key = "url" if "url" in entry else "url_file"
        position = self._document.position((*at, key))
        where = f"{self._path}:{position.line}:{position.column}"
        expanded = []
        for suffix, options in self._expand(adapter.options, own, at):
            checked = self._validate(adapter.options, options, at)
            if isinstance(checked, Options):
                keep_secrets(checked)
            if isinstance(config, SourceConfig) and isinstance(checked, Options):
                named = config.model_copy(update={"name": f"{config.name}{suffix}"})
                expanded.append(ConfiguredSource(named, adapter, checked, where))
        return expanded

    def _scheme(self, adapter: Adapter, url: str, where: Location) -> None:
        scheme, separator, _ = url.partition("://")
        if separator and adapter.options.schemes and scheme.split("+")[0] not in adapter.options.schemes:
            takes = ", ".join(f"{known}://" for known in adapter.options.schemes)
            self._problem(where, f"url: {adapter.name} takes {takes}")

    def _adapter(self, entry: dict[str, Any], at: Location) -> Adapter | None:
        """The source's adapter; None where it names none that loads: its own options cannot be checked then."""
        name = entry.get("adapter")
        if name is None:
            for key in difflib.get_close_matches("adapter", [str(key) for key in entry], n=1):
                self._problem((*at, key), f"unknown key {key!r}; did you mean 'adapter'?", key=True)
            return None  # the missing key is reported with the other ones
        try:
            return self._adapters.get(str(name))
        except LoadError as error:
            self._problem((*at, "adapter"), str(error))
            return None

    def _expand(self, model: type[Options], own: dict[str, Any], at: Location) -> list[tuple[str, dict[str, Any]]]:
        for plural, singular in model.expands.items():
            if plural in own:
                values = own[plural]
                if not isinstance(values, list) or not values or len(set(map(str, values))) != len(values):
                    self._problem((*at, plural), f"{plural} must be a list of different values")
                    return []
                rest = {key: value for key, value in own.items() if key != plural}
                return [(f"/{value}", {**rest, singular: value}) for value in values]
        return [("", own)]

    def _mapping(self, data: dict[str, Any], key: str) -> dict[str, Any]:
        value = data.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self._problem((key,), f"{key} must be a mapping")
        return {}

    def _validate(self, model: type[BaseModel], data: Mapping[str, Any], at: Location) -> BaseModel | None:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for e in error.errors(include_url=False, include_context=True, include_input=False):
                self._explain(model, e["type"], e["msg"], (*at, *e["loc"]), at)
            return None

    def _explain(self, model: type[BaseModel], kind: str, message: str, where: Location, at: Location) -> None:
        if kind == "extra_forbidden":
            inside = _inside(model, where[len(at) : -1])
            known = [f.alias or n for n, f in inside.model_fields.items()] if inside else []
            if inside is model and issubclass(model, Options):
                known += [*SourceConfig.model_fields, *model.expands]
            self._problem(where, f"unknown key {str(where[-1])!r}{_suggest(str(where[-1]), known)}", key=True)
        elif kind == "missing":
            self._problem(where[:-1], f"missing key {str(where[-1])!r}")
        else:
            message = _plain(kind, message)
            name = ".".join(str(part) for part in where[len(at) :])
            self._problem(where, f"{name}: {message}" if name else message)

    def _unknown_keys(self, data: Mapping[str, Any], at: Location, known: tuple[str, ...]) -> None:
        for key in data:
            if key not in known:
                self._problem((*at, key), f"unknown key {key!r}{_suggest(str(key), known)}", key=True)

    def _known_families(self, data: Mapping[str, Any], at: Location, adapters: list[str]) -> None:
        names = data.get("disable")
        own = tuple(f"taskq_{adapter}_" for adapter in adapters)
        for i, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in FAMILIES and not name.startswith(own):
                self._problem((*at, "disable", i), f"disable.{i}: unknown family {name!r}{_close(name, FAMILIES)}")

    def _substitute(self, value: Any, at: Location) -> Any:
        if isinstance(value, dict):
            return {key: self._substitute(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._substitute(item, (*at, i)) for i, item in enumerate(value)]
        if isinstance(value, str) and "$" in value:
            return re.sub(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}", partial(self._variable, at=at), value)
        return value

    def _variable(self, match: re.Match[str], at: Location) -> str:
        if match[0] == "$$":
            return "$"
        value = self._env.get(match[1])
        if not value and match[2] is not None:
            value = match[2]
        if value is None:
            self._problem(at, f"environment variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}")
            return match[0]
        return value

    def _problem(self, where: Location, message: str, *, key: bool = False) -> None:
        place = tuple(part if isinstance(part, int) else str(part) for part in where)
        self._problems.append((self._document.position(place, key=key), message))

    def _fail(self) -> None:
        if self._problems:
            lines = sorted(set(self._problems))
            raise ConfigError("\n".join(f"{self._path}:{p.line}:{p.column}: {message}" for p, message in lines))


def _plain(kind: str, message: str) -> str:
    """Pydantic's message in the words of a YAML file."""
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "must be a mapping"
    if kind in ("tuple_type", "list_type"):
        return "must be a list"
    message = message.removeprefix("Value error, ")
    for theirs, ours in (
        ("Input should be", "must be"),
        ("String should", "must"),
        (", unable to parse", "; cannot read"),
    ):
        message = message.replace(theirs, ours)
    return message.removesuffix("; cannot read string as an integer").removesuffix("; cannot read string as a number")


def _inside(model: type[BaseModel], path: Location) -> type[BaseModel] | None:
    """The model at a place inside a model; None where there is none."""
    for name in path:
        if isinstance(name, str):
            kind = model.model_fields[name].annotation if name in model.model_fields else None
            models = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
            if not models:
                return None
            model = models[0]
    return model


def _suggest(name: str, known: tuple[str, ...] | list[str]) -> str:
    return _close(name, known) or (f"; there are {', '.join(sorted(known))}" if known else "")


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
