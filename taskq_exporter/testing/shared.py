"""One RabbitMQ node for all processes of a test run: the first that wants it starts it, it ends after the last.

A process of its own keeps the node. It waits for an exclusive lock of a file on which each user holds a shared one,
which the kernel releases for a killed process too.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import ForeignServer, Server
from .rabbitmq import start_rabbitmq

__all__ = ["shared_rabbitmq"]


@contextmanager
def shared_rabbitmq(directory: Path) -> Iterator[Server]:
    """The node of a directory that the processes of the run have in common; a private one where it does not start."""
    directory.mkdir(exist_ok=True)
    facts = directory / "server.json"
    with (directory / "users").open("w") as users, (directory / "start").open("w") as start:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)
        if not facts.exists():
            with (directory / "keeper.log").open("ab") as log:
                command = [sys.executable, "-m", __name__, str(directory)]
                keeper = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
                )
            while not facts.exists() and keeper.poll() is None:
                time.sleep(0.05)
            keeper.returncode = 0  # it outlives us: no warning that it still runs
        fcntl.flock(start, fcntl.LOCK_UN)
        if facts.exists():
            yield ForeignServer(name="rabbitmq", **json.loads(facts.read_text()))
        else:
            with start_rabbitmq() as server:  # or the reason why there is none
                yield server


def keep(directory: Path) -> None:
    """Start a node, and end it when nobody uses it any more."""
    facts = directory / "server.json"
    with (directory / "users").open("w") as users, start_rabbitmq() as server:
        known = {name: getattr(server, name) for name in ("url", "management", "kind", "version")}
        written = directory / "server.json.new"
        written.write_text(json.dumps(known))
        written.rename(facts)
        fcntl.flock(users, fcntl.LOCK_EX)
        facts.unlink()  # whoever comes now waits for the lock, and starts another


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
