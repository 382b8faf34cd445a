"""One run's server, and the load on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.celery.subjects import KINDS, Bare, Counts, Ours, Subject, Theirs
from bench.load import Sent
from bench.report import SkippedError
from taskq_exporter.testing.processes import Server
from taskq_exporter.testing.servers import start_redis

OURS, LOOP, THEIRS = 0, 1, 2


@dataclass(frozen=True)
class World:
    """A Redis with default settings; each subject has a database, so that one load is for one of them.

    Args:
        server: The Redis.
        quick: Fewer rounds, for a look.
    """

    server: Server
    quick: bool

    @property
    def port(self) -> int:
        """Of the server."""
        return int(self.server.url.rpartition(":")[2].partition("/")[0])

    @property
    def rounds(self) -> int:
        """How often each thing is measured."""
        return 2 if self.quick else 5

    def load(self, database: int, **arguments: float) -> Sent:
        """Send a load and wait for its end. Raises RuntimeError where it could not be sent."""
        load = self.start_load(database, **arguments)
        return finished(load)

    def start_load(self, database: int, **arguments: float) -> subprocess.Popen[str]:
        """Start a load; `finished()` waits for it."""
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        command = [sys.executable, "-m", "bench.load", str(self.port), str(database), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @contextmanager
    def subjects(self, *, theirs: bool = True) -> Iterator[Sequence[tuple[int, Subject]]]:
        """All that can be had, by database, and fed for long enough to be past their start."""
        with ExitStack() as stack:
            subjects: list[tuple[int, Subject]] = [
                (OURS, stack.enter_context(Ours(self.port, OURS))),
                (LOOP, stack.enter_context(Bare(self.port, LOOP))),
            ]
            if theirs and (other := self.theirs()) is not None:
                subjects.append((THEIRS, stack.enter_context(other)))
            for database, _ in subjects:
                self.load(database, seconds=2.5, rate=3000)
            yield subjects

    def theirs(self) -> Theirs | None:
        """The other exporter, or None where it cannot be had."""
        try:
            return Theirs(self.port, THEIRS)
        except SkippedError:
            return None


@contextmanager
def new_world(quick: bool) -> Iterator[World]:
    """A private server for a run."""
    with start_redis() as server:
        yield World(server, quick)


def finished(load: subprocess.Popen[str]) -> Sent:
    """Wait for a load; what it sent. Raises RuntimeError where it could not be sent."""
    out, errors = load.communicate()
    if load.returncode:
        raise RuntimeError(f"the load failed: {errors[-500:]}")
    return Sent(**json.loads(out))


def lost(before: Counts, after: Counts, sent: Sent) -> int:
    """Events of tasks that were sent and not counted, which is all where the process ended with its counters.

    Negative where too many were counted.
    """
    return sum(sent.tasks - max(after[kind] - before[kind], 0) for kind in KINDS)
