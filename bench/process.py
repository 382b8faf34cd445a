"""A program under test, measured from outside: CPU seconds and memory by the kernel's own count. Linux only."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path

from taskq_exporter.testing.child import Child

#: A process uses less than this share of a core while it has nothing to do.
IDLE = 0.02
_LOOK = 0.25


def cpu_seconds(pid: int) -> float:
    """Seconds of user and system time of a process so far, of all its threads."""
    # The clock of another process, as clock_getcpuclockid(3) names it: exact, where /proc counts 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


class Process(Child):
    """A child process with a name."""

    def __init__(self, name: str, command: list[str], directory: Path, ready: Callable[[], bool]) -> None:
        self.name = name
        super().__init__(command, directory=directory, ready=ready)

    def alive(self) -> bool:
        """Whether it still runs."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    def cpu(self) -> float:
        """Seconds of user and system time so far, of all threads."""
        return cpu_seconds(self.pid)

    def memory(self) -> float:
        """MB of resident memory now."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """The most MB of resident memory so far."""
        return self._status("VmHWM")

    def settle(self, seconds: float = 120.0) -> None:
        """Wait until it idles. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(_LOOK)
            if not self.alive() or self.cpu() - before < IDLE * _LOOK:
                return
        raise TimeoutError(f"{self.name} is still busy after {seconds:g} s")

    def _status(self, field: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return float("nan")  # it has ended


def scrape(port: int, timeout: float = 60.0) -> tuple[float, str]:
    """Seconds that a scrape takes, on a connection of its own, and the page. Raises OSError where there is none."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        page = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"not HTTP: {error!r}") from None
    finally:
        connection.close()
    seconds = time.perf_counter() - began
    if response.status != 200:
        raise ConnectionError(f"HTTP status {response.status}: {page[:200]!r}")
    return seconds, page.decode()
