"""Real RabbitMQ nodes for tests, each with its management API: a local binary, else a container.

Verified with RabbitMQ 3.10.8 on Erlang 25.2.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .child import Child, clean_environment
from .processes import ContainerServer, ProcessServer, Server, free_port, new_directory, start_container, unavailable
from .tls import Certificates

__all__ = ["manage", "start_rabbitmq", "virtual_host"]

USER = "taskq"
IMAGE = "rabbitmq:4-management"


class _Node(ProcessServer):
    """A node with a port mapper (epmd) of its own, which would else be started once for all and stay for ever."""

    def __init__(self, command: list[str], *, epmd: Child, **how: Any) -> None:
        self._epmd = epmd
        super().__init__(command, **how)

    def close(self) -> None:
        # Nobody needs what it would write, and an orderly stop takes 6 seconds.
        self.kill()
        self._epmd.close()
        super().close()


def start_rabbitmq(*config: str, tls: Certificates | None = None) -> Server:
    """Start a private RabbitMQ node, which takes about 5 seconds.

    Args:
        config: Further lines of rabbitmq.conf, e.g. "management.disable_stats = true".
        tls: Listen with these certificates instead of in plain text; the URL is amqps://….

    Returns:
        The server; `url` is amqp://…// of an administrator, with a password, and `management` the address of the
        management API with the same user. Skips the test (fails in CI) where there is none.
    """
    port, http = free_port(), free_port()
    password = secrets.token_hex(8)
    account = f"{USER}:{password}@127.0.0.1"
    facts = {
        "name": "rabbitmq",
        "url": f"amqp{'s' if tls else ''}://{account}:{port}//",
        "management": f"http://{account}:{http}",
    }

    def ready() -> bool:
        return _accepts(port) and _answers(facts["management"])

    listeners = [f"listeners.tcp.1 = 127.0.0.1:{port}"]
    if tls is not None:
        listeners = [
            "listeners.tcp = none",
            f"listeners.ssl.1 = 127.0.0.1:{port}",
            f"ssl_options.cacertfile = {tls.authority}",
            f"ssl_options.certfile = {tls.certificate}",
            f"ssl_options.keyfile = {tls.key}",
            "ssl_options.verify = verify_none",
        ]
    lines = [
        f"default_user = {USER}",
        f"default_pass = {password}",
        "log.console = true",
        "log.console.level = warning",
        "log.file = false",
        "disk_free_limit.absolute = 10MB",
        "collect_statistics_interval = 500",  # the management API's numbers are that old; by default 5 s
        *config,
    ]
    found = _find_rabbitmq()
    if found is not None:
        binary, epmd = found
        directory = new_directory("rabbitmq", None)
        own = ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {http}"]
        (directory / "rabbitmq.conf").write_text("\n".join([*listeners, *own, *lines, ""]))
        (directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        environment = _environment(directory)
        mapper = directory / "epmd"
        mapper.mkdir()
        epmd_port = int(environment["ERL_EPMD_PORT"])
        return _Node(
            [str(binary)],
            epmd=Child(
                [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"],
                directory=mapper,
                ready=lambda: _accepts(epmd_port),
            ),
            directory=directory,
            ready=ready,
            stop_signal=signal.SIGTERM,
            environment=environment,
            kind="local binary",
            version=next(iter(re.findall(r"rabbitmq_server-([\d.]+)", str(binary.resolve()))), "unknown"),
            **facts,
        )
    # Inside the container the ports are the image's own, and it does not see our certificates.
    write = "printf '%s\\n' \"$@\" > /etc/rabbitmq/conf.d/90-test.conf && exec docker-entrypoint.sh rabbitmq-server"
    container = None if tls else start_container(IMAGE, {5672: port, 15672: http}, ["sh", "-c", write, "-", *lines], {})
    if container is None:
        unavailable("RabbitMQ")
    return ContainerServer(container, ready=ready, kind="testcontainers", version=IMAGE, **facts)


def _find_rabbitmq() -> tuple[Path, Path] | None:
    """The server's own script and epmd; Debian's wrapper of it would change the user and the folder."""
    scripts = [Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), shutil.which("rabbitmq-server")]
    mappers = [shutil.which("epmd"), *sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))]
    script = next((Path(s) for s in scripts if s and Path(s).exists()), None)
    epmd = next((Path(m) for m in mappers if m), None)
    return (script, epmd) if script and epmd else None


def _environment(directory: Path) -> dict[str, str]:
    """Nothing is shared with another node: neither name, ports and files nor the cookie."""
    inherited = {k: v for k, v in clean_environment().items() if not k.startswith(("RABBITMQ_", "ERL_"))}
    distribution = free_port()
    return inherited | {
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"taskq-{distribution}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "no-such-file"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        # No busy waiting: the tests need the processors.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node, instead of waiting for it
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _answers(management: str) -> bool:
    try:
        manage(management, "GET", "/api/overview", seconds=2)
    except (OSError, HTTPException, RuntimeError):
        return False
    return True


# --- the management API -----------------------------------------------------------------------------------------


def manage(management: str, method: str, path: str, body: Any = None, *, seconds: float = 30.0) -> Any:
    """One request to the management API.

    Args:
        management: Its address with credentials: `Server.management`.
        method: GET, PUT, POST or DELETE.
        path: E.g. "/api/queues/%2F": names are quoted, the slash too.
        body: Sent as JSON.
        seconds: Longest wait.

    Returns:
        The decoded answer; None where it is empty.

    Raises:
        RuntimeError: It says no.
        OSError: It cannot be reached.
    """
    import base64

    address = urlsplit(management)
    account = base64.b64encode(f"{address.username}:{address.password}".encode()).decode()
    connection = HTTPConnection(address.hostname or "127.0.0.1", address.port or 15672, timeout=seconds)
    try:
        headers = {"Authorization": f"Basic {account}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path}: {response.status} {said.decode('utf-8', 'replace')}")
    return json.loads(said) if said else None


@contextmanager
def virtual_host(server: Server) -> Iterator[str]:
    """The URL of a fresh virtual host, which is deleted afterwards, with the users that have rights in no other."""
    address = urlsplit(server.management)
    name = f"taskq-{os.getpid()}-{secrets.token_hex(4)}"
    manage(server.management, "PUT", f"/api/vhosts/{name}")
    try:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        manage(
            server.management, "PUT", f"/api/permissions/{name}/{quote(address.username or '', safe='')}", everything
        )
        yield urlsplit(server.url)._replace(path=f"/{name}").geturl()
    finally:
        rights = [(p["user"], p["vhost"]) for p in manage(server.management, "GET", "/api/permissions")]
        here, elsewhere = ({user for user, host in rights if (host == name) is own} for own in (True, False))
        manage(server.management, "DELETE", f"/api/vhosts/{name}")
        for user in here - elsewhere - {address.username}:
            manage(server.management, "DELETE", f"/api/users/{quote(user, safe='')}")
