"""Ends the demo's processes and removes its folder when the demo itself is gone, however it went.

Run as `python -m taskq_exporter_demo.keeper FOLDER`. It reads one line for each process group that was started, and
acts at the end of its input: the pipe closes when the demo closes it, crashes or is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def signal_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; False where the group is gone."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS answers so for a group of zombies
        return False
    return True


def end(groups: Iterable[int], *, grace: float = GRACE, reap: Callable[[], None] = lambda: None) -> None:
    """End process groups: SIGTERM, and SIGKILL for what is left after `grace` seconds.

    `reap` collects ended children of the caller, which would count as running otherwise.
    """
    left = [group for group in groups if signal_group(group, signal.SIGTERM)]
    until = time.monotonic() + grace
    while left and time.monotonic() < until:
        time.sleep(0.05)
        reap()
        left = [group for group in left if signal_group(group, 0)]
    for group in left:
        signal_group(group, signal.SIGKILL)


def remove(folder: Path) -> None:
    """Remove the demo's folder, also while a process that is just ending still writes into it."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def main() -> None:
    """Remember groups until the input ends, then end them and remove the folder."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    groups: list[int] = []
    for line in sys.stdin:
        what, number = line[0], int(line[1:])
        if what == "+":
            groups.append(number)
        else:
            with contextlib.suppress(ValueError):
                groups.remove(number)
    end(groups)
    remove(folder)


if __name__ == "__main__":
    main()
