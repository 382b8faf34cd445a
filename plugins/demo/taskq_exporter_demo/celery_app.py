"""The demo's Celery application; as a module, what sends its tasks."""

from __future__ import annotations

import os
import random
import time

from celery import Celery, Task

from taskq_exporter_demo.pace import beats

app = Celery("taskq_exporter_demo.celery_app", broker=os.environ.get("CELERY_BROKER_URL"))
app.conf.update(
    task_default_queue="orders",
    task_ignore_result=True,
    task_send_sent_event=True,  # tells the queue of a task
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


class PaymentDeclined(Exception):
    """What a charge ends with now and then."""


class MailServerBusy(Exception):
    """Why an e-mail is tried again."""


@app.task(name="shop.charge")
def charge(order: int) -> None:
    """Take money for an order; one in eight cards is declined."""
    time.sleep(random.uniform(0.05, 0.2))  # noqa: S311
    if order % 8 == 0:
        raise PaymentDeclined


@app.task(name="shop.send_email", bind=True, max_retries=3)
def send_email(self: Task[..., None], order: int) -> None:
    """Write to a customer; one in ten is tried again."""
    time.sleep(random.uniform(0.02, 0.1))  # noqa: S311
    if order % 10 == 0 and self.request.retries == 0:
        raise self.retry(exc=MailServerBusy(), countdown=3)


@app.task(name="shop.resize_image")
def resize_image(order: int) -> None:  # noqa: ARG001
    """Use a processor for a moment."""
    time.sleep(random.uniform(0.2, 0.5))  # noqa: S311


@app.task(name="shop.monthly_report")
def monthly_report(order: int) -> None:  # noqa: ARG001
    """Take long."""
    time.sleep(random.uniform(3, 8))  # noqa: S311


def produce() -> None:
    """Send tasks for ever."""
    for order in beats(per_second=2.5):
        charge.apply_async((order,))
        send_email.apply_async((order,), queue="emails", countdown=20 if order % 15 == 1 else 0)
        if order % 2 == 0:
            resize_image.apply_async((order,), queue="images")
        if order % 40 == 0:
            monthly_report.apply_async((order,), queue="reports")


if __name__ == "__main__":
    produce()
