"""The Celery application that the tests' workers run. PROJECT holds its settings in JSON."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery import Celery, chord
from celery.exceptions import Ignore, Reject

app = Celery("project")
app.conf.update(
    {
        "broker_connection_retry_on_startup": True,
        "task_ignore_result": True,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        **json.loads(os.environ.get("PROJECT", "{}")),
    }
)


@app.task
def ok() -> None:
    pass


@app.task
def fail() -> None:
    raise ValueError("not a label")


@app.task
def slow(seconds: float) -> None:
    time.sleep(seconds)


@app.task(acks_late=True)
def slow_late(seconds: float) -> None:
    time.sleep(seconds)


@app.task(bind=True, max_retries=2)
def retry(self: Any, countdown: float = 0.0) -> None:
    if self.request.retries < 2:
        raise self.retry(countdown=countdown, exc=KeyError("not a label"))


@app.task(acks_late=True)
def reject() -> None:
    raise Reject("no", requeue=False)


@app.task
def reject_early() -> None:
    raise Reject("no", requeue=False)


@app.task(bind=True, acks_late=True)
def reject_once(self: Any) -> None:
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("no", requeue=True)


@app.task
def ignore() -> None:
    raise Ignore


@app.task(time_limit=1)
def hard() -> None:
    time.sleep(60)


@app.task(soft_time_limit=1)
def soft() -> None:
    time.sleep(60)


@app.task
def chords(n: int) -> None:
    chord([ok.si()] * n)(slow.si(0.1))


@app.task
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class OddError(Exception):
    def __repr__(self) -> str:
        return "password"


@app.task
def odd() -> None:
    raise OddError("password: 1\npassword: 2")
