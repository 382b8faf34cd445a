"""A real Celery application: a producer in this process, workers in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
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

HERE = Path(__file__).parent


class Worker:
    """`celery worker` in a process group of its own."""

    def __init__(self, log: Path, env: dict[str, str], arguments: list[str]) -> None:
        self._log = log
        python = os.environ.get("TASKQ_TEST_CELERY_PYTHON", sys.executable)  # with another version of Celery
        command = [python, "-W", "ignore", "-m", "celery", "-A", "celery_project", "worker", *arguments]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def ready(self) -> Worker:
        """Wait until it consumes."""
        deadline = time.monotonic() + 30
        while b" ready." not in self._log.read_bytes():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        return self

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
    """One application on one broker."""

    def __init__(self, url: str, directory: Path, **settings: Any) -> None:
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
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        env["PROJECT"] = json.dumps({**self.settings, **settings})
        log = self._directory / f"worker{len(self._workers)}.log"
        self._workers.append(Worker(log, env, ["-n", name, "-Q", queues, "--without-mingle", "-l", "INFO", *arguments]))
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
