"""Adapters made of functions, for tests of the core alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter


def adapters(**plugins: dict[str, Any]) -> Adapters:
    """Adapters by name, each from its hook functions."""
    return Adapters(
        {name: SimpleNamespace(**{k: hookimpl(f) for k, f in hooks.items()}) for name, hooks in plugins.items()}
    )


def configured(hooks: dict[str, Any], **core: Any) -> ConfiguredSource:
    """A source of an adapter made of `hooks`."""
    adapter = adapters(fake=hooks).get("fake")
    config = SourceConfig.model_validate({"name": "s", "adapter": "fake", "url": "fake://user:hunter2@host", **core})
    return ConfiguredSource(config, adapter, adapter.options())


class Clock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def following(exporter: Exporter) -> None:
    """Wait until every follower follows."""
    async with asyncio.timeout(30):
        while any(runner.following is False for runner in exporter.runners.values()):
            await asyncio.sleep(0)
