# ruff: noqa: S311 - chance, no secrets
"""The application of docker-compose.yml: its worker sends itself tasks that succeed, fail, are late and are retried."""

import os
import random
import time

from celery import Celery, Task

app = Celery("shop", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    task_routes={"shop.place_order": "orders", "shop.send_email": "emails", "shop.build_report": "reports"},
    beat_schedule={
        "an order": {"task": "shop.place_order", "schedule": 1.0},
        "a newsletter": {"task": "shop.write_newsletter", "schedule": 120.0, "options": {"queue": "reports"}},
        "a report": {"task": "shop.build_report", "schedule": 20.0},
    },
)


@app.task(name="shop.place_order")
def place_order() -> None:
    """An order; one in 50 is wrong."""
    time.sleep(random.uniform(0.05, 0.5))
    if random.random() < 0.02:
        raise ValueError("out of stock")
    send_email.delay()


@app.task(name="shop.send_email", bind=True, max_retries=3)
def send_email(self: Task) -> None:
    """An e-mail; one in ten goes at the second try."""
    time.sleep(random.uniform(0.1, 0.3))
    if random.random() < 0.1:
        raise self.retry(countdown=5)


@app.task(name="shop.write_newsletter")
def write_newsletter() -> None:
    """Many e-mails at once: a backlog that drains."""
    for _ in range(200):
        send_email.delay()


@app.task(name="shop.build_report")
def build_report() -> None:
    """A long task."""
    time.sleep(random.uniform(5, 10))
