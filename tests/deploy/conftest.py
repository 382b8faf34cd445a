from __future__ import annotations

import importlib.util
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# importlib mode has no sys.path entry for a tests folder: containers is loaded once, under its own name
_spec = importlib.util.spec_from_file_location("containers", Path(__file__).with_name("containers.py"))
assert _spec is not None
assert _spec.loader is not None
containers = importlib.util.module_from_spec(_spec)
sys.modules["containers"] = containers
_spec.loader.exec_module(containers)


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
