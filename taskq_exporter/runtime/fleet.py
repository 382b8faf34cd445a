"""The targets of modules: each is watched as a source from its first page on, until nobody asks for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from taskq_exporter.config.sources import Module
from taskq_exporter.exporter import Exporter
from taskq_exporter.runtime.background import Background
from taskq_exporter.runtime.targets import Target
from taskq_exporter.scrape import SourceRunner

__all__ = ["Fleet", "FleetFullError", "Targets"]

log = structlog.get_logger("taskq_exporter")


class FleetFullError(Exception):
    """A module watches as many targets as it may; `str()` says what to do."""


@dataclass(slots=True)
class _Watched:
    target: Target
    runner: SourceRunner
    used: float  # the loop's time of the last page
    pages: int = 0  # under way


class Targets:
    """Those of one module, with counters that go on between pages; no checkpoints are kept of them."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.exporter = Exporter()
        self._watched: dict[str, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = Background()

    @contextmanager
    def page(self, target: Target) -> Iterator[SourceRunner]:
        """Around the making of a page of one target, which must be allowed. Raises FleetFullError."""
        watched = self._watched.get(str(target)) or self._watch(target)
        watched.pages += 1
        try:
            yield watched.runner
        finally:
            watched.pages -= 1
            watched.used = asyncio.get_running_loop().time()
            self._sweep_later()

    def configure(self, module: Module) -> None:
        """Go on as a module of that name says now; what is no longer allowed, or counts something else, is dropped."""
        self.module = module
        for name, watched in list(self._watched.items()):
            source = module.source(watched.target)
            if module.allows(watched.target) and source.fingerprint() == watched.runner.configured.fingerprint():
                watched.runner.reconfigure(source)
            else:
                self._drop(name)

    async def close(self) -> None:
        """End everything."""
        if self._timer is not None:
            self._timer.cancel()
        for name in list(self._watched):
            self._drop(name)
        await asyncio.gather(*self._retiring)

    def _watch(self, target: Target) -> _Watched:
        most = self.module.config.max_targets
        if len(self._watched) >= most:
            # one that never answered has no counters to lose
            silent = [w for w in self._watched.values() if not w.pages and w.runner.last_success is None]
            if not silent:
                raise FleetFullError(
                    f"the module watches {most} targets already; raise its max_targets, or share them out"
                )
            self._drop(min(silent, key=lambda watched: watched.used).runner.name)
        runner = self.exporter.add(self.module.source(target))
        watched = self._watched[runner.name] = _Watched(target, runner, asyncio.get_running_loop().time())
        return watched

    def _drop(self, name: str) -> None:
        del self._watched[name]
        self._retiring.start(self.exporter.remove(name).retire())

    def _sweep_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.module.config.idle_ttl, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        oldest = asyncio.get_running_loop().time() - self.module.config.idle_ttl
        for name, watched in list(self._watched.items()):
            if not watched.pages and watched.used <= oldest:
                log.info("target is not asked for any more", source=name, module=self.module.name)
                self._drop(name)
        if self._watched:
            self._sweep_later()


class Fleet:
    """The targets of all modules of a configuration, which may change."""

    def __init__(self, modules: Callable[[], Sequence[Module]]) -> None:
        """`modules` gives those of the configuration that was loaded last."""
        self._modules = modules
        self._configured: Sequence[Module] = ()
        self._targets: dict[str, Targets] = {}
        self._closing = Background()

    def module(self, name: str) -> Targets | None:
        """The targets of a module; None where there is no such module."""
        self._configure()
        return self._targets.get(name)

    @property
    def names(self) -> list[str]:
        """Of the modules."""
        return [module.name for module in self._modules()]

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*self._closing, *(targets.close() for targets in self._targets.values()))

    def _configure(self) -> None:
        modules = self._modules()
        if modules is self._configured:
            return
        self._configured = modules
        before, self._targets = self._targets, {}
        for module in modules:
            targets = before.pop(module.name, None)
            if targets is None:
                targets = Targets(module)
            else:
                targets.configure(module)
            self._targets[module.name] = targets
        for targets in before.values():
            self._closing.start(targets.close())
