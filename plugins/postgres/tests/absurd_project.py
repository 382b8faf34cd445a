"""Absurd with its own schema, SDK and workers, in an environment of its own: python absurd_project.py STEP URL."""

# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import sys
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import Absurd

HOUR = 3600


def open_queue(url: str, queue: str) -> Absurd:
    """A client of a queue that knows its tasks."""
    app = Absurd(url, queue_name=queue)

    @app.register_task(name="mail")
    def mail(_: Any, __: Any) -> None:
        pass

    @app.register_task(name="boom", default_max_attempts=1)
    def boom(_: Any, __: Any) -> None:
        raise ValueError("secret of a traceback")

    @app.register_task(name="flaky", default_max_attempts=2)
    def flaky(params: Any, context: Any) -> None:
        if context.step("first", lambda: True) and context._task["attempt"] == 1:
            raise ValueError("not yet")

    @app.register_task(name="sleep")
    def sleep(_: Any, context: Any) -> None:
        context.sleep_for("nap", HOUR)

    @app.register_task(name="wait")
    def wait(_: Any, context: Any) -> None:
        context.await_event("answer")

    return app


def fill(url: str) -> None:
    """Make schema, queues and tasks; some run until they sleep, wait, are to be tried again, or are lost."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    emails, images, agents = (open_queue(url, queue) for queue in ("emails", "images", "agents"))
    emails.create_queue()
    images.create_queue(storage_mode="partitioned")
    for queue in ("agents", "empty"):
        agents.create_queue(queue)
    agents.spawn("boom", {}, max_attempts=3, retry_strategy={"kind": "fixed", "base_seconds": HOUR})
    for task in ("sleep", "wait"):
        agents.spawn(task, {})
    agents.work_batch(batch_size=3)
    for worker, timeout in (("gone", 1), ("w1", HOUR)):
        agents.spawn("mail", {})
        agents.claim_tasks(worker_id=worker, claim_timeout=timeout)
    agents.spawn("mail", {"secret": "of a user"})
    for task in ("mail", "mail", "mail", "boom"):
        emails.spawn(task, {"secret": "of a user"})
    for task in ("mail", "flaky"):
        images.spawn(task, {})


def work(url: str) -> None:
    """A worker, until nothing is ready."""
    for queue in ("emails", "images"):
        app = open_queue(url, queue)
        for _ in range(6):
            app.work_batch(worker_id="w2")


def cancel(url: str) -> None:
    """Cancel the task that sleeps for an hour."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT task_id FROM absurd.t_agents WHERE task_name = 'sleep'").fetchone()
        assert row
    open_queue(url, "agents").cancel_task(str(row[0]))


globals()[sys.argv[1]](sys.argv[2])
