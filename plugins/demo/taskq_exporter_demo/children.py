"""The demo's processes: each in a process group of its own, all in one temporary folder, none outliving the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from taskq_exporter_demo import keeper

#: What a child sees of the caller's environment. Nothing else: CELERY_BROKER_URL, PG* or DJANGO_* of the user's shell
#: would lead the demo's workers to the user's own servers.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH")
LOG_TAIL = 15  # lines


class DemoError(Exception):
    """What the demo cannot go on from, with a message that says what to do."""


class User(NamedTuple):
    """Another user of this machine that a child runs as."""

    uid: int
    gid: int


class Child:
    """One process of the demo and its log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def tail(self) -> str:
        """The last lines of its log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"


class Children:
    """A temporary folder and the processes that work in it; leaving the context ends and removes them all."""

    def __init__(self) -> None:
        self.folder = Path()
        self._running: list[Child] = []

    def __enter__(self) -> Children:
        self.folder = Path(tempfile.mkdtemp(prefix="taskq-exporter-demo-"))
        self.folder.chmod(0o711)  # a server that runs as another user passes through it
        (self.folder / "tmp").mkdir(mode=0o700)
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "taskq_exporter_demo.keeper", str(self.folder)],
                stdin=subprocess.PIPE,
                cwd="/",
                env=self._environment({}),
                start_new_session=True,
            )
        except BaseException:
            keeper.remove(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Workers before the servers that they talk to: the last started ends first.
        for child in reversed(self._running):
            if child.process.poll() is None:
                keeper.signal_group(child.process.pid, signal.SIGTERM)
        keeper.end([child.process.pid for child in self._running], reap=self._reap)
        self._reap(wait=True)
        self._running.clear()
        if self._keeper.stdin:
            self._keeper.stdin.close()
        self._keeper.wait()

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {"TMPDIR": str(self.folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        return passed | own | dict(extra)

    def _tell_keeper(self, line: str) -> None:
        if self._keeper.stdin:
            self._keeper.stdin.write(line.encode())
            self._keeper.stdin.flush()

    def _reap(self, *, wait: bool = False) -> None:
        for child in self._running:
            if wait:
                child.process.wait()
            else:
                child.process.poll()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        user: User | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start a process in a group of its own with its output in a log file.

        `stdin` is given to it whole: what is secret does not show in the list of processes there.

        Raises:
            OSError: It cannot be started.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.folder,
                env=self._environment(env or {}),
                start_new_session=True,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        self._tell_keeper(f"+{process.pid}\n")
        child = Child(name, process, log)
        self._running.append(child)
        if stdin is not None and process.stdin:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        return child

    def python(self, name: str, module: str, *arguments: str, env: Mapping[str, str]) -> Child:
        """Start `python -m module` of this very interpreter."""
        return self.start(name, [sys.executable, "-m", module, *arguments], env=env)

    def end(self, child: Child) -> None:
        """End one process early."""
        keeper.end([child.process.pid], reap=self._reap)
        child.process.wait()
        self._forget(child)

    def run(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        user: User | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> None:
        """Run a process to its end.

        Raises:
            OSError: It cannot be started.
            DemoError: It failed, or took more than `timeout` seconds.
        """
        child = self.start(name, command, user=user, cwd=cwd)
        try:
            status = child.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end(child)
            raise DemoError(f"{name} took more than {timeout:.0f} s:\n{child.tail()}") from None
        self._forget(child)
        if status != 0:
            raise DemoError(f"{name} ended with status {status}:\n{child.tail()}")

    def _forget(self, child: Child) -> None:
        self._running.remove(child)
        self._tell_keeper(f"-{child.process.pid}\n")

    def check(self) -> None:
        """Make sure that all still run.

        Raises:
            DemoError: One has ended.
        """
        for child in self._running:
            status = child.process.poll()
            if status is not None:
                raise DemoError(f"{child.name} ended with status {status}; its last lines:\n{child.tail()}")
