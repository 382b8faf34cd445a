"""A real project on a real server, a ledger that remembers, and the adapter's hooks called as the core calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

from taskq_exporter.api import NameFilter, Source

HERE = Path(__file__).parent


class Project:
    """A Django project in a process that does what it is told; see django_project.py."""

    def __init__(
        self,
        url: str,
        *,
        options: dict[str, Any] | None = None,
        library: Path | None = None,
        alias: str = "default",
        **env: str,
    ):
        backend = {
            "BACKEND": "django_tasks_redis.RedisTaskBackend",
            "QUEUES": ["default", "emails", "a:b"],
            "OPTIONS": {"REDIS_URL": url, "REDIS_CLAIM_TIMEOUT": 300, **(options or {})},
        }
        path = os.pathsep.join(str(p) for p in (library, HERE) if p)
        self.env = {**os.environ, "PYTHONPATH": path, "TASKS": json.dumps({alias: backend, "default": backend}), **env}
        self.children: list[subprocess.Popen[str]] = []
        self._driver = self._start("drive", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _start(self, function: str, *args: str, **pipes: Any) -> subprocess.Popen[str]:
        code = f"import django_project; django_project.{function}()"
        child = subprocess.Popen([sys.executable, "-c", code, *args], env=self.env, text=True, cwd=HERE, **pipes)
        self.children.append(child)
        return child

    def __getattr__(self, function: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            names = {"enqueue": ["name", "n"], "process": ["queue"], "stats": ["queue"]}.get(function, ["task_id"])
            line = json.dumps([function, dict(zip(names, args, strict=False)) | kwargs])
            assert self._driver.stdin
            assert self._driver.stdout
            print(line, file=self._driver.stdin, flush=True)
            return json.loads(self._driver.stdout.readline())

        return call

    def work(self, *args: str) -> subprocess.Popen[str]:
        """Start the library's worker; without arguments it ends when the queues are empty."""
        return self._start("work", *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


@pytest.fixture
def make_project() -> Iterator[Callable[..., Project]]:
    projects: list[Project] = []

    def make(url: str, **settings: Any) -> Project:
        projects.append(Project(url, **settings))
        return projects[-1]

    yield make
    for project in projects:
        project.close()


@pytest.fixture
def project(redis_url: str, make_project: Callable[..., Project]) -> Project:
    return make_project(redis_url)


@pytest.fixture
def source(redis_url: str) -> Source:
    return make_source(redis_url)


@pytest.fixture
def source_of() -> Callable[..., Source]:
    return make_source


def make_source(
    url: str, *, expected: tuple[str, ...] = (), exclude: tuple[str, ...] = (), timeout: float = 5.0, **options: Any
) -> Source:
    return Source(
        name="test",
        adapter="django_tasks_redis",
        url=lambda: url,
        options=DjangoTasksRedisOptions(**options),
        timeout=timeout,
        queues=NameFilter(expected=expected, exclude=exclude),
    )


class Recorder:
    """A ledger that keeps everything it is told."""

    run_bounds: tuple[float, ...] = (1.0, 10.0)
    wait_bounds: tuple[float, ...] = (1.0, 10.0)

    def __init__(self, cursor: Any = None) -> None:
        self.cursor = cursor
        self.view = None
        self.declared: set[str] = set()
        self.lag: float | None = None
        self.gaps = 0
        self.started_over: list[str] = []
        self.totals: Counter[tuple[str, ...]] = Counter()
        self.runs: list[tuple[str, str, str, float]] = []
        self.waits: list[tuple[str, str, float]] = []

    def following(self, lag: float | None = 0.0) -> None:
        self.lag = lag

    def counts(self, *what: str) -> None:
        self.declared |= set(what)

    def gap(self) -> None:
        self.gaps += 1

    def start_over(self, why: str) -> None:
        self.cursor = None
        self.totals.clear()
        self.started_over.append(why)

    def finished(self, queue: str, task: str, outcome: str, worker: str = "", n: int = 1) -> None:
        self.totals["finished", queue, task, str(outcome)] += n

    def retried(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self.totals["retried", queue, task] += n

    def exception(self, queue: str, task: str, exception: str, n: int = 1) -> None:
        self.totals["exception", queue, task, exception] += n

    def ran(self, queue: str, task: str, outcome: str, seconds: float, worker: str = "") -> None:
        self.runs.append((queue, task, str(outcome), seconds))

    def waited(self, queue: str, seconds: float, task: str = "") -> None:
        self.waits.append((queue, task, seconds))

    def dropped(self, reason: str, n: int = 1) -> None:
        self.totals["dropped", str(reason)] += n

    def events(self, n: int = 1) -> None:
        self.totals["events",] += n

    def commands(self, n: int = 1) -> None:
        self.totals["commands",] += n

    def total(self, *labels: str) -> int:
        """The sum over every label set that begins with these."""
        return sum(n for key, n in self.totals.items() if key[: len(labels)] == labels)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for
