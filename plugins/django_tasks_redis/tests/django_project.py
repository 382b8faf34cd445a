"""A Django project with django-tasks-redis, in processes of its own: a driver that does what it is told, and workers.

TASKS comes as JSON from the environment. `python -c "import django_project; django_project.drive()"` reads one JSON
list [function, arguments] per line and answers with one JSON value; `…work()` runs the library's own worker.
"""

# mypy: disable-error-code="no-untyped-call,no-any-return,untyped-decorator"

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    USE_TZ=os.environ.get("USE_TZ", "1") == "1",
    TIME_ZONE=os.environ.get("TIME_ZONE", "UTC"),
    INSTALLED_APPS=["django_tasks_redis"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS=json.loads(os.environ["TASKS"]),
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.tasks import task, task_backends  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_tasks_redis import executor  # noqa: E402


@task
def add(a: int = 1, b: int = 2) -> int:
    return a + b


@task
def boom() -> None:
    raise ValueError("secret of a traceback")


@task
def flaky(path: str) -> None:
    """Fails until the file exists."""
    if not os.path.exists(path):
        raise RuntimeError("not yet")


@task
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@task
def die() -> None:
    """As a worker that is killed."""
    os._exit(9)


TASKS = {"add": add, "boom": boom, "flaky": flaky, "sleep": sleep, "die": die}


class Driver:
    """What the tests call by name."""

    def enqueue(
        self, name: str, n: int = 1, delay: float | None = None, args: tuple[Any, ...] = (), **using: Any
    ) -> list[str]:
        if delay is not None:
            using["run_after"] = timezone.now() + timedelta(seconds=delay)
        configured = TASKS[name].using(**using)
        return [str(configured.enqueue(*args).id) for _ in range(n)]

    def stats(self, queue: str | None = None) -> dict[str, Any]:
        return {k: v for k, v in executor.get_queue_stats("default", queue).items() if isinstance(v, int)}

    def process(self, queue: str | None = None, max_tasks: int = 0, worker_id: str | None = "driver") -> int:
        return len(executor.process_tasks(queue_name=queue, max_tasks=max_tasks, worker_id=worker_id))

    def fetch(self, queue: str | None = None, worker_id: str = "holder") -> str | None:
        """Take a task and hold it, not started."""
        data = executor.fetch_task(queue_name=queue, worker_id=worker_id)
        return data and data["task_id"]

    def run_by_id(self, task_id: str, allow_retry: bool = False) -> None:
        executor.run_task_by_id(task_id, allow_retry=allow_retry)

    def reset(self, task_id: str) -> bool:
        return executor.reset_task_for_retry(task_id)

    def sweep(self, worker_id: str = "sweeper") -> int:
        return executor.claim_stale_tasks(claim_timeout=0.001, worker_id=worker_id)

    def rebuild(self) -> None:
        task_backends["default"].rebuild_status_index()


def drive() -> None:
    """Do what each line of standard input says."""
    driver = Driver()
    for line in sys.stdin:
        function, kwargs = json.loads(line)
        print(json.dumps(getattr(driver, function)(**kwargs)), flush=True)


def work() -> None:
    """Run the library's worker with the arguments of the command line."""
    call_command("run_redis_tasks", *sys.argv[1:])
