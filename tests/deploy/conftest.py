from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "containers", "kube")
containers = sys.modules["containers"]
#: Redis and Prometheus of Debian, where Docker Hub has theirs.
STAND_IN = """\
FROM python:3.13-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server prometheus >/dev/null
"""


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


@pytest.fixture(scope="session")
def stand_in(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with redis-server and prometheus."""
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "Dockerfile").write_text(STAND_IN)
    tag: str = engine.build(folder, "localhost/taskq-stand-in:1")
    return tag


@pytest.fixture(scope="session")
def shop(engine: Any) -> str:
    """The image of docker-compose.yml's application."""
    tag: str = engine.build(containers.ROOT / "deploy" / "celery", "localhost/taskq-shop:1")
    return tag
