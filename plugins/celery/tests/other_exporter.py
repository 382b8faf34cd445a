"""danihodovic/celery-exporter as it is published, at work beside ours."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from taskq_exporter.testing import Page
from taskq_exporter.testing.child import Child, clean_environment
from taskq_exporter.testing.processes import free_port, new_directory

__all__ = ["OURS", "THEIRS", "THEIR_PYTHON", "CeleryExporter"]

THEIR_PYTHON = Path(__file__).parents[3] / "bench/.venvs/celery-exporter/bin/python"
THEIRS = (str(THEIR_PYTHON), "-c", 'from src.cli import cli; cli(auto_envvar_prefix="CE")')
OURS = (sys.executable, "-m", "taskq_exporter", "celery-exporter")


class CeleryExporter(Child):
    """One of the two programs, told the same: its flags and its variables."""

    def __init__(self, program: Sequence[str], url: str, *flags: str) -> None:
        """Start it on a free port of loopback and wait until it answers."""
        self.address = f"127.0.0.1:{free_port()}"
        host, _, port = self.address.partition(":")
        super().__init__(
            [*program, f"--broker-url={url}", f"--host={host}", f"--port={port}", *flags],
            directory=new_directory("celery-exporter", None),
            ready=lambda: self._get("/") is not None,
            environment={**clean_environment(), "CE_GENERIC_HOSTNAME_TASK_SENT_METRIC": "true"},
        )

    def page(self) -> Page:
        """What stands at /metrics."""
        text = self._get("/metrics")
        assert text is not None, self.log
        return Page(text)

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=20) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
