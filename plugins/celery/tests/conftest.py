"""A real Celery application: a producer in this process, workers in processes of their own."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
from celery import Celery
from kombu import Queue

from taskq_exporter.testing.beside import load_beside

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".cache"
NEWEST = "newest"

load_beside(__file__, "celery_world", "other_exporter", "simulated_world")


@functools.cache
def python_of(celery: str) -> str:
    """A Python with that version of Celery: ours, or one of an environment that is made once and kept."""
    if celery == NEWEST:
        return sys.executable
    requirements = HERE / f"requirements-celery-{celery}.txt"
    fingerprint = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    CACHE.mkdir(exist_ok=True)
    place = CACHE / f"celery-{celery}-{sys.implementation.cache_tag}-{fingerprint}"
    with Path(f"{place}.lock").open("w") as lock:  # processes of one run, and of others
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            install = ["install", "--no-deps", "--require-hashes", "-r", requirements]
            for command in (
                [sys.executable, "-m", "venv", "--without-pip", place],
                [*pip, "--python", place / "bin/python", *install],
            ):
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            (place / "complete").touch()
    return str(place / "bin/python")


class Worker:
    """`celery worker` or `celery beat` in a process group of its own."""

    def __init__(self, python: str, log: Path, env: dict[str, str], arguments: list[str]) -> None:
        self._log = log
        self._is_ready = b"beat: Starting..." if "beat" in arguments else b" ready."
        command = [python, "-W", "ignore", "-m", "celery", "-A", "celery_project", *arguments]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def ready(self) -> Worker:
        """Wait until it consumes, or sends."""
        deadline = time.monotonic() + 30
        while self._is_ready not in self._log.read_bytes():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        return self

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text("utf-8", "replace")

    def stop(self) -> None:
        """Warm shutdown: it finishes what it runs."""
        self.process.terminate()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        """SIGKILL the worker and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Project:
    """One application on one broker, which may be any that kombu knows; `celery` is the version of its workers."""

    def __init__(self, url: str, directory: Path, *, celery: str = NEWEST, **settings: Any) -> None:
        self._python = python_of(celery)
        self.settings = {"broker_url": url, **settings}
        self._directory = directory
        self._workers: list[Worker] = []
        self.app = Celery("project")
        self.app.conf.update(task_send_sent_event=True, **self.settings)

    def send(self, task: str, *args: Any, n: int = 1, queue: str = "celery", **how: Any) -> list[str]:
        """Send a task n times; returns the ids."""
        with self.app.connection_for_write() as connection:
            producer = self.app.amqp.Producer(connection)
            return [
                self.app.send_task(
                    f"celery_project.{task}", args, queue=queue, producer=producer, ignore_result=True, **how
                ).id
                for _ in range(n)
            ]

    def worker(self, *arguments: str, name: str = "w1@host", queues: str = "celery", **settings: Any) -> Worker:
        """Start a worker, whose settings may differ."""
        return self._start(["worker", "-n", name, "-Q", queues, "--without-mingle", "-l", "INFO", *arguments], settings)

    def beat(self, schedule: dict[str, dict[str, Any]], *arguments: str, **settings: Any) -> Worker:
        """Start a beat with `beat_schedule`; it looks at it each second."""
        file = str(self._directory / "beat-schedule")
        command = ["beat", "-s", file, "--pidfile=", "--max-interval", "1", "-l", "INFO", *arguments]
        return self._start(command, {**settings, "beat_schedule": schedule})

    def _start(self, arguments: list[str], settings: dict[str, Any]) -> Worker:
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        env["PROJECT"] = json.dumps({**self.settings, **settings})
        log = self._directory / f"worker{len(self._workers)}.log"
        self._workers.append(Worker(self._python, log, env, arguments))
        return self._workers[-1]

    def declare(self, *queues: str) -> None:
        """Declare queues as a worker or producer does, without sending to them."""
        with self.app.connection_for_write() as connection:
            for queue in queues:
                Queue(queue, exchange=queue, routing_key=queue).bind(connection.default_channel).declare()

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self.app.close()
        kombu.pools.reset()  # they belong to the URL, and a closed one would be found again


@pytest.fixture(scope="session")
def _projects(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    return lambda url, **settings: Project(url, tmp_path_factory.mktemp("celery"), **settings)


@pytest.fixture(scope="session")
def open_project(_projects: Callable[..., Project]) -> Callable[..., contextlib.AbstractContextManager[Project]]:
    return lambda url, **settings: contextlib.closing(_projects(url, **settings))


@pytest.fixture
def make_project(_projects: Callable[..., Project]) -> Iterator[Callable[..., Project]]:
    with contextlib.ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(contextlib.closing(_projects(url, **settings)))


@pytest.fixture
def project(redis_url: str, make_project: Callable[..., Project]) -> Project:
    return make_project(redis_url)
