"""The hand-made allocator on a server of the test run, and a source of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# importlib mode has no sys.path entry for a tests folder: what tests share is loaded once, under its own name
_spec = importlib.util.spec_from_file_location("pubsub_allocator", Path(__file__).with_name("pubsub_allocator.py"))
assert _spec
assert _spec.loader
pubsub_allocator = importlib.util.module_from_spec(_spec)
sys.modules["pubsub_allocator"] = pubsub_allocator
_spec.loader.exec_module(pubsub_allocator)


@pytest.fixture
def allocator(redis_url: str) -> Iterator[pubsub_allocator.Allocator]:  # type: ignore[name-defined]
    with pubsub_allocator.Allocator(redis_url) as made:
        yield made


@pytest.fixture
def source(redis_url: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A source as in the configuration file, which looks for workers at each page, so to say."""
    soon = {"worker_interval": "100ms", "discovery_interval": "100ms"}
    return {"name": request.node.name, "adapter": "redis_pubsub", "url": redis_url, **soon}
