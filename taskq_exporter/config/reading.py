"""Configuration files, read: each source checked by the core and its adapter, each mistake with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskq_exporter.adapters import Adapter, Adapters, LoadError
from taskq_exporter.api import Options
from taskq_exporter.config.explain import Location, close_to
from taskq_exporter.config.mistakes import Mistakes
from taskq_exporter.config.modules import MODULE_KEYS, ModuleConfig
from taskq_exporter.config.secretfiles import SUFFIX, secret_files
from taskq_exporter.config.settings import Core, SourceConfig, StateConfig
from taskq_exporter.config.sources import ConfiguredSource, Module, keep_secrets
from taskq_exporter.config.yamlpos import Document
from taskq_exporter.log import keep_secret
from taskq_exporter.schema import FAMILIES

if TYPE_CHECKING:
    from taskq_exporter.compat.mapping import MappedFamily

__all__ = ["MainFile", "Reader"]

MAIN_KEYS = ("defaults", "state", "sources", "sources_dir", "modules")
TEAM_KEYS = ("defaults", "sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class MainFile:
    """What the main file says."""

    sources: tuple[ConfiguredSource, ...]
    defaults: Mapping[str, Any]
    state_dir: Path | None
    sources_dir: Path | None
    modules: tuple[Module, ...]


class Reader:
    """Turns one document into sources, gathering every mistake with its place."""

    def __init__(self, path: Path, document: Document, adapters: Adapters, env: Mapping[str, str]) -> None:
        self._path = path
        self._document = document
        self._mistakes = Mistakes(path, document)
        self._adapters = adapters
        self._env = env

    def read(self) -> MainFile:
        """The main file. Raises ConfigError with every mistake."""
        data = self._top_level(MAIN_KEYS)
        defaults = self._defaults(data)
        state = self._mistakes.validate(StateConfig, self._mapping(data, "state"), ("state",))
        sources_dir = data.get("sources_dir")
        if sources_dir is not None and (not isinstance(sources_dir, str) or not sources_dir.strip()):
            self._mistakes.add(("sources_dir",), "sources_dir must be the path of a directory")
        modules = self._modules(data, defaults)
        sources = self._sources(data, defaults, {}, [], may_be_empty=sources_dir is not None or "modules" in data)
        self._mistakes.fail()
        return MainFile(
            sources=tuple(sources),
            defaults=defaults,
            state_dir=state.dir if state else None,
            sources_dir=self._path.parent / sources_dir if sources_dir is not None else None,
            modules=tuple(modules),
        )

    def read_team(
        self, defaults: Mapping[str, Any], taken: Mapping[str, Path], mapped: list[MappedFamily]
    ) -> tuple[ConfiguredSource, ...]:
        """The sources of one file of sources_dir, below the main file's defaults.

        Raises ConfigError with every mistake; a source's name that another file has taken is one, and a name of a
        family that means another thing among those `mapped` elsewhere.
        """
        data = self._top_level(TEAM_KEYS)
        sources = self._sources(data, {**defaults, **self._defaults(data)}, taken, mapped, may_be_empty=True)
        self._mistakes.fail()
        return tuple(sources)

    def place(self, key: str) -> str:
        """FILE:LINE:COLUMN of the value of a top-level key."""
        position = self._document.position((key,))
        return f"{self._path}:{position.line}:{position.column}"

    def _top_level(self, keys: tuple[str, ...]) -> dict[str, Any]:
        data = self._substitute(self._document.data, ())
        if not isinstance(data, dict):
            self._mistakes.add((), "the file must be a mapping with the key sources; see config.example.yaml")
            self._mistakes.fail()
        self._mistakes.unknown_keys(data, (), keys)
        return dict(data)

    def _defaults(self, data: dict[str, Any]) -> dict[str, Any]:
        defaults = self._mapping(data, "defaults")
        if self._mistakes.validate(Core, defaults, ("defaults",)) is None:
            defaults = {}  # said once, not again for each source
        self._known_families(defaults, ("defaults",), self._adapters.names)
        return defaults

    def _sources(
        self,
        data: dict[str, Any],
        defaults: Mapping[str, Any],
        taken: Mapping[str, Path],
        mapped: list[MappedFamily],
        *,
        may_be_empty: bool,
    ) -> list[ConfiguredSource]:
        entries = data.get("sources")
        if entries is None and may_be_empty:
            return []
        if not isinstance(entries, list) or not (entries or may_be_empty):
            self._mistakes.add(("sources",), "sources must be a list of at least one source with name, adapter and url")
            return []
        sources: list[ConfiguredSource] = []
        names: dict[str, Location] = {}
        for i, entry in enumerate(entries):
            at: Location = ("sources", i)
            for source in self._source(entry, at, defaults):
                name = source.config.name
                if (first := names.setdefault(name, at)) != at:
                    self._twice(at, name, f"line {self._document.position((*first, 'name')).line}")
                elif name in taken:
                    self._twice(at, name, str(taken[name]))
                self._one_shape(source, at, mapped)
                sources.append(source)
        return sources

    def _twice(self, at: Location, name: str, first: str) -> None:
        self._mistakes.add((*at, "name"), f"source name {name!r} is used twice; it is first in {first}")

    def _source(
        self, entry: Any, at: Location, defaults: Mapping[str, Any], beside: Iterable[str] = ()
    ) -> list[ConfiguredSource]:
        if not isinstance(entry, dict):
            self._mistakes.add(at, "a source must be a mapping with name, adapter and url")
            return []
        if isinstance(url := entry.get("url"), str):
            keep_secret(url)
        adapter = self._adapter(entry, at)
        own = {key: value for key, value in entry.items() if key not in SourceConfig.model_fields}
        core = {key: value for key, value in entry.items() if key in SourceConfig.model_fields}
        core = {**(adapter.options.core_defaults if adapter else {}), **defaults, **core}
        config = self._mistakes.validate(SourceConfig, core, at)
        self._check_url(adapter, core, at)
        if adapter is None:
            return []
        self._known_families(entry, at, [adapter.name], _theirs(config))
        key = "url" if "url" in entry else "url_file"
        position = self._document.position((*at, key))
        where = f"{self._path}:{position.line}:{position.column}"
        files = [name + SUFFIX for name in secret_files(adapter.options)]
        also = (*SourceConfig.model_fields, *adapter.options.expands, *files, *beside)
        if config is not None:
            self._check_compat(config, adapter, at)
        expanded = []
        for suffix, options in self._expand(adapter.options, own, at):
            checked = self._mistakes.validate(adapter.options, options, at, also)
            if checked is not None:
                keep_secrets(checked)
            if config is not None and checked is not None:
                named = config.model_copy(update={"name": f"{config.name}{suffix}"})
                expanded.append(ConfiguredSource(named, adapter, checked, where))
        return expanded

    def _modules(self, data: dict[str, Any], defaults: Mapping[str, Any]) -> list[Module]:
        modules = []
        for name, entry in self._mapping(data, "modules").items():
            at: Location = ("modules", name)
            if not isinstance(entry, dict):
                self._mistakes.add(at, "a module must be a mapping with adapter and allow")
                continue
            for key in {"name", "url", "url_file"} & entry.keys():
                self._mistakes.add((*at, key), f"a module has no {key}: each target is a URL", key=True)
            config = self._mistakes.validate(ModuleConfig, {k: v for k, v in entry.items() if k in MODULE_KEYS}, at)
            of_source = {k: v for k, v in entry.items() if k not in MODULE_KEYS}
            for source in self._source({**of_source, "name": name, "url": "of each target"}, at, defaults, MODULE_KEYS):
                for plural in source.adapter.options.expands.keys() & entry.keys():
                    self._mistakes.add((*at, plural), f"a module has no {plural}: each target is one source", key=True)
                if config is not None:
                    keep_secrets(config)
                    for i, allowed in enumerate(config.allow):
                        self._scheme(source.adapter, allowed, (*at, "allow", i))
                    self._one_shape(source, at, [])
                    modules.append(Module(str(name), config, source))
        return modules

    def _check_url(self, adapter: Adapter | None, core: Mapping[str, Any], at: Location) -> None:
        given = [key for key in ("url", "url_file") if core.get(key) is not None]
        if adapter is not None and not adapter.options.needs_url:
            for key in given:
                self._mistakes.add((*at, key), f"{key}: adapter {adapter.name} takes none: remove it", key=True)
        elif not given:
            self._mistakes.add(at, "a source has either url or url_file")
        elif adapter is not None and isinstance(url := core.get("url"), str):
            self._scheme(adapter, url, (*at, "url"))

    def _check_compat(self, config: SourceConfig, adapter: Adapter, at: Location) -> None:
        for i, entry in enumerate(config.compat):
            from taskq_exporter.compat.mapping import load  # a start without any needs none of it

            of = load(entry.mapping).adapters
            if adapter.name not in of:
                message = f"compat.{i}: {entry.mapping} is for sources of {' or '.join(of)}, not of {adapter.name}"
                self._mistakes.add((*at, "compat", i), message)

    def _one_shape(self, source: ConfiguredSource, at: Location, others: list[MappedFamily]) -> None:
        """On one page a name stands for one thing; `others` are the families of the sources before it."""
        mine: list[MappedFamily] = []
        for i, entry in enumerate(source.config.compat):
            from taskq_exporter.compat.mapping import conflict, mapped_families

            families = mapped_families([entry], source.options)
            problem = conflict(families, mine, same_source=True) or conflict(families, others, same_source=False)
            if problem:
                self._mistakes.add((*at, "compat", i), f"compat.{i}: {problem}")
            mine += families
        others += mine

    def _scheme(self, adapter: Adapter, url: str, where: Location) -> None:
        scheme, separator, _ = url.partition("://")
        if separator and adapter.options.schemes and scheme.split("+")[0] not in adapter.options.schemes:
            takes = ", ".join(f"{known}://" for known in adapter.options.schemes)
            what = ".".join(str(part) for part in where[2:])
            self._mistakes.add(where, f"{what}: {adapter.name} takes {takes}")

    def _adapter(self, entry: dict[str, Any], at: Location) -> Adapter | None:
        """The source's adapter; None where it names none that loads: its own options cannot be checked then."""
        name = entry.get("adapter")
        if name is None:
            for key in difflib.get_close_matches("adapter", [str(key) for key in entry], n=1):
                self._mistakes.add((*at, key), f"unknown key {key!r}; did you mean 'adapter'?", key=True)
            return None  # the missing key is reported with the other ones
        try:
            return self._adapters.get(str(name))
        except LoadError as error:
            self._mistakes.add((*at, "adapter"), str(error))
            return None

    def _expand(self, model: type[Options], own: dict[str, Any], at: Location) -> list[tuple[str, dict[str, Any]]]:
        for plural, singular in model.expands.items():
            if plural in own:
                values = own[plural]
                if not isinstance(values, list) or not values or len(set(map(str, values))) != len(values):
                    self._mistakes.add((*at, plural), f"{plural} must be a list of different values")
                    return []
                rest = {key: value for key, value in own.items() if key != plural}
                return [(f"/{value}", {**rest, singular: value}) for value in values]
        return [("", own)]

    def _mapping(self, data: dict[str, Any], key: str) -> dict[str, Any]:
        value = data.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self._mistakes.add((key,), f"{key} must be a mapping")
        return {}

    def _known_families(
        self, data: Mapping[str, Any], at: Location, adapters: list[str], theirs: Sequence[str] = ()
    ) -> None:
        names = data.get("disable")
        own = tuple(f"taskq_{adapter}_" for adapter in adapters)
        for i, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in (*FAMILIES, *theirs) and not name.startswith(own):
                hint = close_to(name, (*FAMILIES, *theirs))
                self._mistakes.add((*at, "disable", i), f"disable.{i}: unknown family {name!r}{hint}")

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
            self._mistakes.add(
                at, f"environment variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}"
            )
            return match[0]
        return value


def _theirs(config: SourceConfig | None) -> Sequence[str]:
    """The names of the families that a source's mappings add."""
    if config is None or not config.compat:
        return ()
    from taskq_exporter.compat.mapping import mapped_families

    return [family.name for family in mapped_families(config.compat, None)]
