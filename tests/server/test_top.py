"""`taskq-exporter top` in a real terminal, over real queues."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from taskq_exporter import cli
from taskq_exporter.commands import top as top_command
from taskq_exporter.config.environment import VARIABLES
from taskq_exporter.testing import Server
from taskq_exporter.testing.child import clean_environment
from taskq_exporter.testing.processes import free_port
from taskq_exporter.testing.prometheus import ExporterProcess
from taskq_exporter.testing.watch import config_file

TOP = ["-m", "taskq_exporter", "top"]
#: Makes the terminal the one that sends signals for Ctrl-C and Ctrl-Z.
CONTROLLED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
LEAVE = "\x1b[?25h\x1b[?1049l"


def send(url: str, queue: str, n: int) -> None:
    app = Celery("top", broker=url)
    with app.connection_for_write() as connection:
        for _ in range(n):
            app.send_task("shop.good", queue=queue, connection=connection, ignore_result=True)
    app.close()


class Terminal:
    """A terminal with `top` in it."""

    def __init__(self, *arguments: str, columns: int = 120, rows: int = 30) -> None:
        self.master, self.slave = pty.openpty()
        self._size(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        command = [sys.executable, "-c", CONTROLLED, sys.executable, *TOP, *arguments]
        env = {**clean_environment(), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env, start_new_session=True
        )
        self.written = ""

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self._size(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def read(self) -> None:
        while select.select([self.master], [], [], 0.1)[0]:
            self.written += os.read(self.master, 65536).decode()

    @property
    def frame(self) -> list[str]:
        """The lines that stand there now."""
        return re.sub(r"\x1b\[[\d?;]*[A-Za-z]", "", self.written.rpartition("\x1b[H")[2]).split("\r\n")

    def until(self, condition: Callable[[str], object], what: str) -> list[str]:
        deadline = time.monotonic() + 30
        while True:
            self.read()
            if condition("\n".join(self.frame)):
                return self.frame
            said = f"{what}\n{self.written[-3000:]!r}"
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Exit status; fails where the terminal is not as it was."""
        deadline = time.monotonic() + 20
        while self.process.poll() is None:  # reading, for it may wait until all that it wrote is read
            assert time.monotonic() < deadline, self.written[-2000:]
            self.read()
        self.read()
        assert self.written.endswith(LEAVE)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def terminal(*arguments: str, **size: int) -> Iterator[Terminal]:
    shown = Terminal(*arguments, **size)
    try:
        yield shown
    finally:
        shown.close()


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**clean_environment(), "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run([sys.executable, *TOP, *arguments], env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def exporter(redis_url: str, tmp_path: Path) -> Iterator[ExporterProcess]:
    send(redis_url, "emails", 3)
    send(redis_url, "orders", 5)  # a queue that is new is found a minute later
    exporter = ExporterProcess(config_file(tmp_path, {"name": "shop", "adapter": "celery", "url": redis_url}))
    yield exporter
    exporter.close()


def row(frame: str, queue: str) -> list[str]:
    return next((line.split() for line in frame.split("\n") if line.startswith(f"shop    {queue} ")), [])


def test_the_queues_live_by_url_and_q_gives_the_terminal_back(exporter: ExporterProcess, redis_url: str) -> None:
    with terminal("--url", f"http://{exporter.address}", "--interval", "500ms") as shown:
        shown.until(lambda frame: row(frame, "emails")[2:3] == ["3"], "the queue is shown")
        send(redis_url, "emails", 4)
        send(redis_url, "orders", 4)
        frame = shown.until(
            lambda frame: row(frame, "emails")[2:3] == ["7"] and row(frame, "orders")[2:3] == ["9"], "it is live"
        )
        names = [line.split()[1] for line in frame if line.startswith("shop ")]
        assert names == ["orders", "emails"], "what is stuck with more comes first"
        assert "no consumers" in "\n".join(frame), "and says why"
        assert "2 queues" in frame[0]
        shown.resize(60, 3)
        frame = shown.until(lambda frame: "more" in frame.split("\n")[-1], "the terminal is smaller")
        assert len(frame) <= 3
        assert max(map(len, frame)) <= 60
        shown.resize(120, 30)
        shown.until(lambda frame: row(frame, "emails"), "and large again")
        shown.type("x")
        shown.type("q")
        assert shown.ended() == 0
        assert "Traceback" not in shown.written


@pytest.mark.parametrize("how", ["\x03", signal.SIGTERM, signal.SIGHUP])
def test_signals_give_the_terminal_back(how: Any, redis_url: str, tmp_path: Path) -> None:
    send(redis_url, "emails", 2)
    config = config_file(tmp_path, {"name": "shop", "adapter": "celery", "url": redis_url})
    with terminal("--config.file", str(config)) as shown:  # sources of its own
        shown.until(lambda frame: row(frame, "emails")[2:3] == ["2"], "the queue is shown")
        if isinstance(how, str):
            shown.type(how)
        else:
            shown.process.send_signal(how)
        assert shown.ended() == 0
        assert "Traceback" not in shown.written


def test_ctrl_z_gives_the_terminal_back_for_as_long_as_it_sleeps(exporter: ExporterProcess) -> None:
    with terminal("--url", f"http://{exporter.address}") as shown:
        shown.until(lambda frame: row(frame, "emails"), "the queue is shown")
        shown.type("\x1a")
        stat = Path(f"/proc/{shown.process.pid}/stat")
        deadline = time.monotonic() + 20
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            shown.read()
            assert time.monotonic() < deadline
        shown.read()
        assert shown.written.endswith(LEAVE)
        assert termios.tcgetattr(shown.slave) == shown.before
        shown.written = ""
        shown.process.send_signal(signal.SIGCONT)
        shown.until(lambda frame: row(frame, "emails"), "it goes on")
        shown.type("q")
        assert shown.ended() == 0


def test_an_exporter_that_goes_away_is_said_and_waited_for(
    exporter: ExporterProcess, redis_url: str, tmp_path: Path
) -> None:
    with terminal("--url", f"http://{exporter.address}", "--interval", "500ms") as shown:
        shown.until(lambda frame: row(frame, "emails"), "the queue is shown")
        exporter.close()
        frame = shown.until(lambda frame: "cannot be read" in frame, "it is gone")
        assert row("\n".join(frame), "emails"), "the last numbers stay"
        shown.type("q")
        assert shown.ended() == 0


def test_without_a_terminal_it_prints_the_table_once(redis_own: Server, tmp_path: Path) -> None:
    send(redis_own.url, "naïve 队列", 2)
    send(redis_own.url, "evil\x1b[2J\rname", 1)
    source = {"name": "shop", "adapter": "celery", "url": redis_own.url, "timeout": "2s"}
    config = config_file(tmp_path, source)
    done = top("--config.file", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["SOURCE", "QUEUE", "READY"]
    assert [line.split()[1:4] for line in rows] == [["naïve", "队列", "2"], [r"evil\x1b[2J\rname", "1", "0"]]
    assert all(line.isprintable() for line in (head, *rows))
    redis_own.stop()
    done = top("--once", "--config.file", str(config))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("shop is down: connect: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "URL"), "cannot be read"),
        (("--url", "localhost:9540"), "http://HOST:9540"),
        (("--url", "URL", "--interval", "often"), "--interval: not a duration"),
        (("--url", "URL", "--config.file", "x.yaml"), "either --url or --config.file"),
        ((), "--config.file"),
    ],
)
def test_wrong_flags_and_no_exporter_are_messages(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(top_command, "configure", lambda *_: None)
    monkeypatch.setattr(cli, "configure", lambda *_: None)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    url = f"http://127.0.0.1:{free_port()}"
    assert cli.main(["top", *(url if argument == "URL" else argument for argument in arguments)]) == 1
    out, err = capsys.readouterr()
    assert (out, words in err) == ("", True), err
