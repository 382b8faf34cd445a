from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py

import taskq_exporter.log
from taskq_exporter.adapters import Adapters
from taskq_exporter.api import hookimpl
from taskq_exporter.testing import World, checks, watch

# importlib mode has no sys.path entry for a tests folder: each helper is loaded once, under its own name
for _name in ("fakes", "faulty", "reports"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])


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
