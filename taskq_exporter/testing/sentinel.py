"""A Redis master with a replica, watched by Sentinels."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from .processes import ProcessServer, Server, free_port, new_directory, unavailable, version
from .servers import find_redis, redis_answers, start_redis

__all__ = ["SentinelSetup", "start_redis_sentinel"]

START_SECONDS = 30.0


class SentinelSetup:
    """A context manager that ends all its servers."""

    def __init__(self, servers: list[Server], sentinels: list[Server], service: str, stack: ExitStack) -> None:
        #: Master and replica, as they were at the start.
        self.servers = servers
        self.sentinels = sentinels
        #: What the Sentinels call the master: kombu's `master_name`.
        self.service = service
        self._stack = stack

    @property
    def url(self) -> str:
        """The broker URL as kombu wants it: sentinel://host:port;sentinel://host:port."""
        return ";".join(f"sentinel://127.0.0.1:{port}" for port in self.ports)

    @property
    def ports(self) -> list[int]:
        """The Sentinels' ports."""
        return [int(server.url.rpartition(":")[2].partition("/")[0]) for server in self.sentinels]

    @property
    def master(self) -> Server:
        """The server that is the master by the first Sentinel that answers."""
        port = self._ask("get-master-addr-by-name", self.service)[1]
        return next(server for server in self.servers if f":{int(port)}/" in server.url)

    def fail_over(self) -> Server:
        """Make the replica the master while both are well; returns the new master.

        The old one becomes its replica about 10 seconds later: until then another change finds none to promote.
        """
        return self._until_another(self.master, lambda: self._ask("failover", self.service))

    def kill_master(self) -> Server:
        """Stop the master; returns the new one, once the Sentinels have agreed on it."""
        before = self.master
        return self._until_another(before, before.stop)

    def _until_another(self, before: Server, act: Any) -> Server:
        deadline = time.monotonic() + START_SECONDS
        act()
        while (now := self.master) is before or not _is_master(now):
            if time.monotonic() > deadline:
                raise RuntimeError("the Sentinels did not fail over")
            time.sleep(0.05)
        return now

    def _ask(self, *command: str) -> Any:
        import redis

        with redis.Redis(port=self.ports[0]) as client:
            return client.execute_command("SENTINEL", *command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()


def start_redis_sentinel(*, sentinels: int = 1, service: str = "taskq") -> SentinelSetup:
    """Start a master, a replica that is in step with it, and Sentinels that know both.

    A stopped master is replaced within about a second. Skips the test (fails in CI) where there is no local Redis.
    """
    found = find_redis()
    if found is None:
        unavailable("Redis with Sentinel")
    binary, kind = found
    with ExitStack() as stack:
        master = stack.enter_context(start_redis("--repl-diskless-sync-delay", "0"))
        port = master.url.rpartition(":")[2].partition("/")[0]
        replica = stack.enter_context(start_redis("--replicaof", "127.0.0.1", port, "--repl-diskless-sync-delay", "0"))
        watchers: list[Server] = []
        for _ in range(sentinels):
            own = free_port()
            directory = new_directory("sentinel", None)
            config = directory / "sentinel.conf"
            config.write_text(
                f"port {own}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor {service} 127.0.0.1 {port} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {service} 500\n"
                f"sentinel failover-timeout {service} 1000\n"
            )
            watchers.append(
                stack.enter_context(
                    ProcessServer(
                        [binary, str(config), "--sentinel"],
                        directory=directory,
                        ready=lambda own=own: redis_answers(own),  # type: ignore[misc]
                        stop_signal=signal.SIGTERM,
                        name="redis-sentinel",
                        url=f"redis://127.0.0.1:{own}/0",
                        kind=kind,
                        version=version([binary, "--version"]),
                    )
                )
            )
        setup = SentinelSetup([master, replica], watchers, service, stack.pop_all())
    try:
        _wait_for_all(setup)
    except BaseException:
        setup.__exit__(None, None, None)
        raise
    return setup


def _is_master(server: Server) -> bool:
    import redis

    try:
        with redis.Redis.from_url(server.url) as client:
            return str(client.info("replication")["role"]) == "master"
    except redis.ConnectionError:
        return False


def _wait_for_all(setup: SentinelSetup) -> None:
    """Until each Sentinel knows the others and a replica in step: before, nothing would be failed over."""
    import redis

    deadline = time.monotonic() + START_SECONDS
    for port in setup.ports:
        with redis.Redis(port=port, decode_responses=True) as client:
            while True:
                replicas = client.execute_command("SENTINEL", "replicas", setup.service)
                others = client.execute_command("SENTINEL", "sentinels", setup.service)
                # Flags like "s_down" and "disconnected" come with it while it is not reached.
                linked = [r for r in replicas if r["flags"] == "slave" and r["master-link-status"] == "ok"]
                if len(others) == len(setup.ports) - 1 and linked:
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"a Sentinel does not know all: {replicas} {others}")
                time.sleep(0.05)
