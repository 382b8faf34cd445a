from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py

import taskq_exporter.log
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import hookimpl
from taskq_exporter.testing import World, checks, watch
from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "fakes", "faulty", "reports")


@pytest.fixture(autouse=True)
def _secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps secret is a word like any other in the next."""
    monkeypatch.setattr(taskq_exporter.log, "_secrets", set())
    monkeypatch.setattr(taskq_exporter.log, "_pattern", None)


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    def make(hooks: Any) -> Any:
        plugin = SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})
        for module in (checks, sys.modules[watch.__module__]):
            monkeypatch.setattr(module, "Adapters", lambda: Adapters({"faulty": plugin}))
        return sys.modules["faulty"].Kit()

    return make


@pytest.fixture
def world(redis_url: str) -> World:
    with redis_py.Redis.from_url(redis_url) as client:
        client.rpush("jobs", "a", "b")
    return World(url=redis_url, tasks={"jobs": {"ready": 2}})
