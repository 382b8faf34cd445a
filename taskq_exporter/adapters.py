"""The adapters that are installed: found by entry point, loaded by name, validated, each called alone."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from math import inf
from typing import Any

import pluggy

from taskq_exporter.api import (
    PROJECT,
    AdapterError,
    AdapterSpec,
    Detected,
    Family,
    Finding,
    Ledger,
    Options,
    Reason,
    Snapshot,
    Source,
)
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.runtime.threads import in_thread

__all__ = ["Adapter", "Adapters", "LoadError", "installed"]

GROUP = "taskq_exporter.adapters"
_LABEL = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@cache
def _all_points() -> Any:
    return entry_points()  # SelectableGroups in Python 3.11, EntryPoints since


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name. All groups are looked for once: it takes a tenth of the start."""
    return {point.name: point for point in _all_points().select(group=group)}


class LoadError(Exception):
    """An adapter that is not installed, cannot be imported or breaks the contract."""


class Adapter:
    """One loaded adapter: its hooks as typed methods."""

    def __init__(self, name: str, plugin: object, distribution: str = "", version: str = "") -> None:
        """Raises LoadError where the plugin breaks the contract."""
        self.name = name
        self.distribution = distribution
        self.version = version
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(AdapterSpec)
        try:
            manager.register(plugin, name)
            manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise LoadError(f"adapter {name!r} breaks the contract: {error}") from None
        self._hook = manager.hook
        self._implemented = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
        if "collect" not in self._implemented:
            raise LoadError(f"adapter {name!r} has no collect(): mark a function of that name with @hookimpl")
        self._in_threads: set[str] = set()  # sources whose plain collect() runs, or still hangs
        self._collect_is_async = inspect.iscoroutinefunction(getattr(plugin, "collect", None))
        try:
            self.options = self._own_options()
            self.families = self._own_families()
        except LoadError as error:
            raise LoadError(f"adapter {name!r} breaks the contract: {error}") from None
        except Exception as error:
            raise LoadError(
                f"adapter {name!r}: options() or families() failed: {type(error).__name__}: {error}"
            ) from error

    def has(self, hook: str) -> bool:
        """Whether the adapter implements an optional hook."""
        return hook in self._implemented

    def connect(self, source: Source) -> AbstractAsyncContextManager[Any]:
        """A context manager whose value is the client; None where the adapter needs no connection."""
        return self._hook.connect(source=source) if self.has("connect") else nullcontext()

    async def collect(self, source: Source, client: Any) -> Snapshot:
        """One collect; a plain def runs in a daemon thread of its own, so that a hang blocks neither loop nor exit."""
        if self._collect_is_async:
            snapshot = await self._hook.collect(source=source, client=client)
        else:
            snapshot = await self._collect_in_thread(source, client)
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"collect() of adapter {self.name!r} returned {type(snapshot).__name__}, not Snapshot")
        return snapshot

    async def _collect_in_thread(self, source: Source, client: Any) -> Any:
        if source.name in self._in_threads:
            raise AdapterError(Reason.TIMEOUT, f"the last collect of adapter {self.name} still hangs")
        self._in_threads.add(source.name)

        def collect() -> Any:
            try:
                return self._hook.collect(source=source, client=client)
            finally:
                self._in_threads.discard(source.name)

        return await in_thread(collect)

    async def follow(self, source: Source, client: Any, ledger: Ledger) -> None:
        """Run the follower until it ends or is cancelled."""
        await self._hook.follow(source=source, client=client, ledger=ledger)

    async def detect(self, env: Mapping[str, str]) -> Sequence[Detected]:
        """Sources that the environment names; none where the adapter looks for none."""
        return list(await self._hook.detect(env=env) or ()) if self.has("detect") else []

    async def diagnose(self, source: Source, client: Any) -> Sequence[Finding]:
        """What `check` says; nothing where the adapter has no advice."""
        return list(await self._hook.diagnose(source=source, client=client)) if self.has("diagnose") else []

    def grants(self, source: Source) -> str | None:
        """The rights that a source's user needs; None where the adapter does not say."""
        return str(self._hook.grants(source=source)) if self.has("grants") else None

    def _own_options(self) -> type[Options]:
        model = self._hook.options() if self.has("options") else Options
        if not isinstance(model, type) or not issubclass(model, Options):
            raise LoadError("options() must return a subclass of taskq_exporter.api.Options")
        if core := [n for n in (*model.model_fields, *model.expands) if n in SourceConfig.model_fields]:
            raise LoadError(f"its option {core[0]!r} has the name of a core option")
        return model

    def _own_families(self) -> Mapping[str, Family]:
        families: dict[str, Family] = {}
        own = re.compile(rf"taskq_{re.escape(self.name)}_[a-z0-9_]+")
        for family in self._hook.families() or () if self.has("families") else ():
            what = f"family {family.name!r}"
            if family.kind not in ("gauge", "counter", "histogram") or not own.fullmatch(family.name):
                raise LoadError(f"{what} is not a gauge, counter or histogram taskq_{self.name}_…")
            rising = list(family.buckets) == sorted(set(family.buckets)) and inf not in family.buckets
            if bool(family.buckets) != (family.kind == "histogram") or not rising:
                raise LoadError(f"{what}: histograms, and only they, have buckets, which rise, without +Inf")
            if family.name.endswith("_total") != (family.kind == "counter"):
                raise LoadError(f"{what}: counters, and only they, are named …_total")
            if bad := [label for label in family.labels if label in ("source", "le") or not _LABEL.fullmatch(label)]:
                raise LoadError(f"{what}: {bad[0]!r} cannot be a label of it")
            if len(set(family.labels)) < len(family.labels) or family.name in families:
                raise LoadError(f"{what} stands twice, or one of its labels does")
            families[family.name] = family
        return families


class Adapters:
    """Adapters by name, loaded when first asked for, so that one broken plugin stops only its own sources."""

    def __init__(self, plugins: Mapping[str, object] | None = None) -> None:
        """With `plugins`, these modules are used instead of the installed entry points (tests)."""
        self._plugins = plugins
        self._points: dict[str, EntryPoint] = {} if plugins is not None else installed(GROUP)
        self._loaded: dict[str, Adapter] = {}

    @property
    def names(self) -> list[str]:
        """The names of the installed adapters."""
        return sorted(self._plugins if self._plugins is not None else self._points)

    @property
    def loaded(self) -> list[Adapter]:
        """The adapters that were asked for."""
        return [self._loaded[name] for name in sorted(self._loaded)]

    def get(self, name: str) -> Adapter:
        """The adapter of that name. Raises LoadError, which says what to do."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def describe(self) -> list[tuple[str, str, str, str]]:
        """Name, distribution, version and load error ("" where it loads) of each installed adapter."""
        rows = []
        for name in self.names:
            distribution, version = self._distribution(name)
            try:
                self.get(name)
                error = ""
            except LoadError as failed:
                error = str(failed)
            rows.append((name, distribution, version, error))
        return rows

    def _distribution(self, name: str) -> tuple[str, str]:
        point = self._points.get(name)
        return (point.dist.name, point.dist.version) if point and point.dist else ("", "")

    def _load(self, name: str) -> Adapter:
        if name not in self.names:
            installed = ", ".join(self.names) or "none"
            close = difflib.get_close_matches(name, self.names, n=1)
            package = f"taskq-exporter-{name.replace('_', '-')}"
            hint = f"did you mean {close[0]!r}?" if close else f"installed: {installed}; try pip install {package}"
            raise LoadError(f"unknown adapter {name!r}; {hint}")
        try:
            plugin = self._plugins[name] if self._plugins is not None else self._points[name].load()
        except Exception as error:
            raise LoadError(f"adapter {name!r} cannot be imported: {type(error).__name__}: {error}") from error
        return Adapter(name, plugin, *self._distribution(name))
