"""One task in flight, and its attempts."""

from __future__ import annotations

from taskq_exporter_celery.worker import Worker


class Run:
    """One attempt that is running."""

    __slots__ = ("heard", "queue", "since", "started", "task", "worker")

    def __init__(self, task: Task, worker: Worker, started: float, since: float) -> None:
        self.task = task
        self.worker = worker
        self.started = started  # by the worker's clock
        self.since = since  # arrival by ours
        self.queue = task.queue  # a retry may go to another
        self.heard = True  # an event told of its start


class Task:
    """One uuid. `retries` is the latest try that was heard of; `runs` are most often one."""

    __slots__ = (
        "begun",
        "born",
        "earlier",
        "excepted",
        "finished",
        "name",
        "presumed",
        "queue",
        "received",
        "retries",
        "runnable",
        "runs",
        "uuid",
        "waited",
    )

    def __init__(self, uuid: str, name: str, queue: str, now: float) -> None:
        self.uuid = uuid
        self.name = name
        self.queue = queue
        self.born = now
        self.retries = 0
        self.runnable: float | None = None  # sent or due by the producer's clock; None before task-sent
        self.waited = False
        self.earlier: float | None = None  # `runnable` of the try before this one, whose start is to come
        self.begun: float | None = None  # when the latest try began, by the worker's clock
        self.received: tuple[int, str] | None = None  # try and name that were delivered last
        self.finished = False
        self.presumed: Run | None = None  # the last run, where the worker stopped counting it and no event told the end
        self.excepted = False
        self.runs: list[Run] | None = None
