"""How long a start takes, beside what only its two largest libraries take."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psycopg
import yaml

from taskq_exporter.testing.processes import free_port

#: Times as long as the two imports.
LIMIT = 4.0
ROUNDS = 8


class Cost:
    """Seconds of the clock and of the processor that a process took until a moment."""

    def __init__(self, *command: str, ready: str = "") -> None:
        """With `ready`, an address, until it answers with 200; else until it ends."""
        # bytecode is there when a package is installed
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
        try:
            while ready and not _ready(ready):
                assert process.poll() is None, f"{command} ended"
                time.sleep(0.01)
            if ready:
                self.wall = time.perf_counter() - begun
                process.send_signal(signal.SIGKILL)
            process.wait()
            if not ready:
                self.wall = time.perf_counter() - begun
        finally:
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:  # nobody listens, or not ready
        return False


def test_ten_sources_are_ready_in_four_times_the_import_of_aiohttp(
    redis_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """The best of several rounds, for the machine does other things too."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE jobs (id bigserial PRIMARY KEY, state text)")
    table = {"name": "public.jobs", "columns": {"state": "state"}, "states": {"ready": ["queued"]}}
    sources = [
        *({"name": f"celery-{i}", "adapter": "celery", "url": redis_url} for i in range(4)),
        *({"name": f"django-{i}", "adapter": "django_tasks_redis", "url": redis_url} for i in range(3)),
        *({"name": f"postgres-{i}", "adapter": "postgres", "url": postgres_dsn, "table": table} for i in range(3)),
    ]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"sources": sources}))
    told = []
    for _ in range(ROUNDS):
        imports = Cost("-c", "import aiohttp, prometheus_client")
        address = f"127.0.0.1:{free_port()}"
        flags = (f"--config.file={path}", f"--web.listen-address={address}")
        start = Cost("-m", "taskq_exporter", *flags, ready=address)
        wall, cpu = start.wall / imports.wall, start.cpu / imports.cpu
        told.append(f"{wall:.1f} times by the clock, {cpu:.1f} by the processor")
        if wall <= LIMIT and cpu <= LIMIT:
            return
    raise AssertionError("; ".join(told))
