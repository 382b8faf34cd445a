"""A terminal that is drawn over and over, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TextIO

from taskq_exporter.view.table import Line

__all__ = ["Screen", "is_terminal"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_STYLES: Final = {"head": "\x1b[1m", "bad": "\x1b[31m"}


def is_terminal(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether lines there can be drawn over."""
    return out.isatty() and environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The whole terminal, until the context ends; keys come one by one and are not shown."""

    def __init__(self, out: TextIO = sys.stdout, environ: Mapping[str, str] = os.environ) -> None:
        self._out = out
        self._styles = {} if environ.get("NO_COLOR") else _STYLES
        #: Where keys are read; None where standard input is no terminal.
        self.keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self.keys is not None:
            self._before = termios.tcgetattr(self.keys)
            tty.setcbreak(self.keys)  # Ctrl-C stays a signal
        self._write(_ENTER)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._write(_LEAVE)
        if self.keys is not None and self._before is not None:
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Ctrl-Z: give the terminal back, and take it again when the shell lets this process go on."""
        self.__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        self.__enter__()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows now."""
        try:
            return os.get_terminal_size(self._out.fileno())
        except OSError:
            return shutil.get_terminal_size()

    def typed(self) -> str:
        """What was typed; "" where the terminal is gone."""
        with contextlib.suppress(OSError):
            return os.read(self.keys or 0, 64).decode("utf-8", "replace")
        return ""

    def draw(self, lines: Sequence[Line]) -> None:
        """Show the lines instead of what is there; what is too long or too much is the caller's to cut."""
        _, rows = self.size
        # a line is cleared before it is written: behind its last column is no place to do it from
        shown = "\n".join(f"\x1b[K{self._styled(line)}" for line in lines[:rows])
        self._write(f"\x1b[H{shown}" + ("\n\x1b[J" if len(lines) < rows else ""))

    def _styled(self, line: Line) -> str:
        style = self._styles.get(line.kind)
        return f"{style}{line.text}\x1b[m" if style else line.text

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # it is gone: SIGHUP says so
            self._out.write(text)
            self._out.flush()
