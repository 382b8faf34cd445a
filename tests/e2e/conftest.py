"""A jobs table with its application, and an exporter that a real Prometheus scrapes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from taskq_exporter.testing import Server
from taskq_exporter.testing.child import clean_environment
from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus
from taskq_exporter.testing.watch import config_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Jobs:
    """A jobs table, and the application that works on it."""

    def __init__(self, connection: psycopg.Connection[Any], dsn: str) -> None:
        self.connection = connection
        self.dsn = dsn
        connection.execute(
            "CREATE TABLE jobs (id bigserial PRIMARY KEY, queue text NOT NULL DEFAULT 'bills', kind text NOT NULL, "
            "state text NOT NULL DEFAULT 'queued', created_at timestamptz NOT NULL DEFAULT now(), "
            "started_at timestamptz, finished_at timestamptz)"
        )
        connection.execute("CREATE INDEX ON jobs (queue) WHERE state = 'queued'")
        connection.execute("CREATE INDEX ON jobs (queue) WHERE state = 'active'")

    @property
    def source(self) -> dict[str, Any]:
        """The source of the configuration file."""
        columns = {role: role for role in ("id", "queue", "state", "created_at", "started_at", "finished_at")}
        states = {"ready": ["queued"], "running": ["active"], "succeeded": ["done"], "failed": ["error"]}
        return {
            "name": "billing",
            "adapter": "postgres",
            "url": self.dsn,
            "poll_interval": "200ms",
            "duty_cycle": None,
            "table": {"name": "public.jobs", "columns": {**columns, "task": "kind"}, "states": states},
        }

    def enqueue(self, kind: str, n: int = 1) -> None:
        self.connection.execute("INSERT INTO jobs (kind) SELECT %s FROM generate_series(1, %s)", (kind, n))

    def work(self, n: int, *, pause: float = 0.0) -> None:
        """Take and end n jobs, one after the other, each in transactions of its own; `bad` ones fail."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for _ in range(n):
                taken = connection.execute(
                    "UPDATE jobs SET state = 'active', started_at = clock_timestamp() WHERE id = (SELECT id FROM jobs "
                    "WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, kind"
                ).fetchone()
                assert taken is not None
                time.sleep(pause)
                state = "error" if taken[1] == "bad" else "done"
                connection.execute(
                    "UPDATE jobs SET state = %s, finished_at = clock_timestamp() WHERE id = %s", (state, taken[0])
                )

    def work_beside(self, n: int, *, workers: int, pause: float) -> Callable[[], None]:
        """Work in threads; returns a function that waits for them and raises what they raised."""
        failed: list[Exception] = []

        def run() -> None:
            try:
                self.work(n // workers, pause=pause)
            except Exception as error:  # noqa: BLE001 - raised again in wait()
                failed.append(error)

        threads = [threading.Thread(target=run) for _ in range(workers)]
        for thread in threads:
            thread.start()

        def wait() -> None:
            for thread in threads:
                thread.join()
            assert not failed, failed

        return wait


@pytest.fixture
def jobs(postgres_dsn: str) -> Iterator[Jobs]:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield Jobs(connection, postgres_dsn)


StartExporter = Callable[..., ExporterProcess]


@pytest.fixture
def start_exporter(tmp_path: Path) -> Iterator[StartExporter]:
    """Start exporters over sources as the configuration file has them, with checkpoints where asked."""
    running: list[ExporterProcess] = []

    def start(*sources: dict[str, Any], state: bool = False) -> ExporterProcess:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(ExporterProcess(config_file(folder, *sources, state_dir=folder / "state" if state else None)))
        return running[-1]

    yield start
    for exporter in running:
        exporter.close()


def readme_scrape_configs(address: str) -> list[dict[str, Any]]:
    """The snippet that the README shows, with another target."""
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"<!-- scrape_configs -->\n```yaml\n(.*?)```\n<!-- /scrape_configs -->", readme, re.S)
    assert found is not None, "README.md has no scrape_configs between its markers"
    assert found[1].count("localhost:9540") == 1
    configs: list[dict[str, Any]] = yaml.safe_load(found[1].replace("localhost:9540", address))["scrape_configs"]
    return configs


@pytest.fixture
def start_prometheus() -> Iterator[Callable[[ExporterProcess], Prometheus]]:
    """Start a Prometheus that scrapes an exporter as the README says."""
    running: list[Prometheus] = []

    def start(exporter: ExporterProcess) -> Prometheus:
        prometheus = Prometheus(readme_scrape_configs(exporter.address))
        running.append(prometheus)
        prometheus.until(lambda: prometheus.value('up{job="taskq"}') == 1, "the first scrape")
        return prometheus

    yield start
    for prometheus in running:
        prometheus.close()


class Apps:
    """The two applications in child processes."""

    def __init__(self, broker: str, redis: str) -> None:
        self.env = {**clean_environment(), "PYTHONPATH": str(HERE), "BROKER": broker, "REDIS": redis}
        self.children: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> Any:
        command = [sys.executable, str(HERE / "apps.py"), *arguments]
        out = subprocess.run(command, env=self.env, check=True, capture_output=True, timeout=60).stdout
        return json.loads(out) if arguments[0] in ("celery_length", "django_stats") else None

    def celery_worker(self, queues: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._celery("worker", "-c", "4", "-Q", queues, "-l", "ERROR", *arguments)

    def celery_beat(self) -> subprocess.Popen[bytes]:
        """Beat with its schedule in Redis, by redbeat."""
        return self._celery("beat", "-S", "redbeat.RedBeatScheduler", "--max-interval", "1", "-l", "ERROR")

    def _celery(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "apps:app", *arguments]
        self.children.append(
            subprocess.Popen(
                command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        )
        return self.children[-1]

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.fixture
def apps(redis_own: Server) -> Iterator[Apps]:
    base = redis_own.url.rsplit("/", 1)[0] if redis_own.url.count("/") > 2 else redis_own.url
    apps = Apps(f"{base}/0", f"{base}/1")
    yield apps
    apps.close()
