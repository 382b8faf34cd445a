"""What is compared: this exporter, danihodovic/celery-exporter, and the bare loop, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.process import Process, scrape
from bench.report import SkippedError
from taskq_exporter.testing.processes import free_port, new_directory

BENCH = Path(__file__).resolve().parents[1]
#: Where make puts the other exporter.
VENV = BENCH / ".venvs" / "celery-exporter"

#: Events counted by type.
Counts = dict[str, int]
KINDS = ("received", "started", "succeeded")


class Exporter(Process):
    """A subject with a page."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, port: int) -> None:
        self.port = port
        super().__init__(name, list(command), directory, self._good)

    def _good(self) -> bool:
        with contextlib.suppress(OSError):
            return self.is_good(scrape(self.port)[1])
        return False

    def is_good(self, page: str) -> bool:
        """Whether a page tells of the broker."""
        raise NotImplementedError

    def count(self, page: str) -> Counts:
        """The events of tasks that a page tells of."""
        raise NotImplementedError

    def counts(self) -> Counts:
        """The events of tasks that it has counted; none where it has ended."""
        return self.count(scrape(self.port)[1]) if self.alive() else dict.fromkeys(KINDS, 0)


class Ours(Exporter):
    """taskq-exporter, as it is installed beside this Python."""

    def __init__(self, server: int, database: int) -> None:
        directory = new_directory("bench", None)
        config = directory / "config.yaml"
        url = f"redis://127.0.0.1:{server}/{database}"
        config.write_text(f"sources: [{{name: bench, adapter: celery, url: '{url}'}}]\n")
        port = free_port()
        program = str(Path(sys.executable).with_name("taskq-exporter"))
        flags = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        super().__init__("taskq-exporter", [program, *flags], directory, port)

    def is_good(self, page: str) -> bool:
        """It reads the broker, and follows it."""
        return all(f'taskq_source_{part}{{source="bench"}} 1.0\n' in page for part in ("up", "follower_up"))

    def count(self, page: str) -> Counts:
        """Of the ledger's counters."""
        return {
            "received": total(page, "taskq_tasks_received_total"),
            "started": total(page, "taskq_tasks_started_total"),
            "succeeded": total(page, "taskq_tasks_finished_total", 'outcome="succeeded"'),
        }


class Theirs(Exporter):
    """danihodovic/celery-exporter, with its defaults. Raises SkippedError where it is not to be had."""

    def __init__(self, server: int, database: int, queues: Sequence[str] = ()) -> None:
        python = os.environ.get("CELERY_EXPORTER_PYTHON") or str(VENV / "bin" / "python")
        if not Path(python).exists():
            raise SkippedError("celery-exporter is not installed: `make bench` does it where Python 3.11 or 3.12 is")
        port = free_port()
        start = "from src.cli import cli; cli(auto_envvar_prefix='CE')"
        if checkout := os.environ.get("CELERY_EXPORTER_DIR"):
            start = f"import sys; sys.path.insert(0, {checkout!r}); {start}"
        flags = [f"--broker-url=redis://127.0.0.1:{server}/{database}", "--host=127.0.0.1", f"--port={port}"]
        if queues:
            flags.append(f"--queues={','.join(queues)}")
        super().__init__("celery-exporter", [python, "-c", start, *flags], new_directory("bench", None), port)

    def is_good(self, page: str) -> bool:
        """Every page is one."""
        return bool(page)

    def count(self, page: str) -> Counts:
        """Of its counters."""
        return {kind: total(page, f"celery_task_{kind}_total") for kind in KINDS}


class Bare(Process):
    """The bare loop."""

    def __init__(self, server: int, database: int) -> None:
        command = [sys.executable, str(BENCH / "bare_loop.py"), "127.0.0.1", str(server), str(database)]
        super().__init__("bare loop", command, new_directory("bench", None), lambda: bool(self.log))

    def counts(self) -> Counts:
        """The events of tasks that it has counted."""
        before = self.log
        if self.alive():
            os.kill(self.pid, signal.SIGUSR1)
            deadline = time.monotonic() + 30
            while self.log == before and time.monotonic() < deadline:
                time.sleep(0.01)
        said = json.loads(self.log.splitlines()[-1])
        return {kind: said.get(f"task-{kind}", 0) for kind in KINDS}


Subject = Ours | Theirs | Bare


def total(page: str, name: str, label: str = "") -> int:
    """The sum of the series of that name that have a label."""
    lines = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", page, re.MULTILINE)
    return int(sum(float(value) for labels, value in lines if label in labels))
