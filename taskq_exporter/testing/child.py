"""A child process of a test: started until it answers, stopped, frozen, and never left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Child", "clean_environment"]

START_SECONDS = 60.0
#: The kernel ends a guarded child with the thread that started it: this one lasts as long as the tests.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="taskq-start")


class Child:
    """A context manager that ends the process and removes its directory. Its output is `directory`/server.log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        directory: Path,
        ready: Callable[[], bool],
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it as `user` (root only) and wait until `ready()`. Raises RuntimeError where it does not start."""
        self.command = [str(word) for word in command]
        self.directory = directory
        self.ready = ready
        self.stop_signal = stop_signal
        self.user = user
        self.environment = environment
        #: Exit status of the last run that ended; negative for a signal.
        self.status: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Ends also where a test run crashes in Python; setpriv covers the kills that Python does not see.
        atexit.register(self.close)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.directory / "server.log").read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError while it is stopped."""
        if self._process is None:
            raise RuntimeError("it is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log where it does not."""
        if self._process is not None:
            return
        log = self.directory / "server.log"
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", self.stop_signal.name.removeprefix("SIG")] if setpriv else []
        with log.open("ab") as out:
            start: partial[subprocess.Popen[bytes]] = partial(
                subprocess.Popen,
                [*guard, *self.command],
                cwd=self.directory,
                env=self.environment or clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
                user=self.user,
                extra_groups=[] if self.user else None,
            )
            process = self._process = _STARTER.submit(start).result()
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.command[0]} did not start:\n{tail}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in order; kill it where it does not end within ten seconds."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self.status = self._process.wait()
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
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)


def clean_environment() -> dict[str, str]:
    """Our environment without the PG… variables that would change what the server and its clients do."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")}


def _children(pid: int) -> list[int]:
    said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in said.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]
