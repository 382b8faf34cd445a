"""The hand-made allocator on a server of the test run, and a source of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "pubsub_allocator")
pubsub_allocator = sys.modules["pubsub_allocator"]


@pytest.fixture
def allocator(redis_url: str) -> Iterator[pubsub_allocator.Allocator]:  # type: ignore[name-defined]
    with pubsub_allocator.Allocator(redis_url) as made:
        yield made


@pytest.fixture
def source(redis_url: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A source as in the configuration file, which looks for workers at each page, so to say."""
    soon = {"worker_interval": "100ms", "discovery_interval": "100ms"}
    return {"name": request.node.name, "adapter": "redis_pubsub", "url": redis_url, **soon}
