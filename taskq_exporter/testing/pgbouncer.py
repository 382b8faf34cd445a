"""PgBouncer in transaction mode before a PostgreSQL server: what many applications' connections really lead to."""

from __future__ import annotations

import shutil
import signal
from urllib.parse import unquote, urlsplit

from .processes import ProcessServer, Server, free_port, new_directory, unavailable, version
from .servers import postgres_answers, unprivileged_user
from .stores import with_credentials

__all__ = ["start_pgbouncer"]


def start_pgbouncer(url: str, *, pool_size: int = 2) -> Server:
    """Start a pooler whose clients share a few connections to the server, each for one transaction.

    Args:
        url: Of the database and of the only user that is let in, as the server knows it.
        pool_size: Connections to the server.

    Returns:
        The pooler; `url` leads through it. Skips the test (fails in CI) where there is no local PgBouncer.
    """
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        unavailable("PgBouncer")
    parts, port = urlsplit(url), free_port()
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    user = unprivileged_user()
    directory = new_directory("pgbouncer", user)
    users, config = directory / "users.txt", directory / "pgbouncer.ini"
    users.write_text(f'"{name}" "{password}"\n')
    config.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\n"
        f"pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 100\n"
    )
    for file in (users, config):
        file.chmod(0o600)
        if user is not None:
            shutil.chown(file, user)
    through = with_credentials(url, parts.username or "", parts.password or "", port=port)
    return ProcessServer(
        [binary, str(config)],
        directory=directory,
        ready=lambda: postgres_answers(through),
        stop_signal=signal.SIGINT,
        user=user,
        name="pgbouncer",
        url=through,
        kind="local binary",
        version=version([binary, "--version"]),
    )
