from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "containers")
containers = sys.modules["containers"]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """podman and buildah, with the base image."""
    engine = containers.Engine(tmp_path_factory.mktemp("engine"))
    engine.ensure_base()
    return engine


@pytest.fixture(scope="session")
def image(engine: Any) -> Iterator[str]:
    """The image of the Dockerfile as it is."""
    tag = f"localhost/taskq-exporter-test:{secrets.token_hex(4)}"
    yield engine.build(containers.ROOT, tag)
    engine.run("podman", "rmi", "--force", tag, check=False)
