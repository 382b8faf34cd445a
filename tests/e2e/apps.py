"""A Celery application and a Django project with a few tasks, for child processes with this folder on their path."""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import sys
import time

QUEUES = ["default", "mails"]


def celery_app():
    from celery import Celery

    app = Celery("apps", broker=os.environ["BROKER"])
    app.conf.update(
        task_send_sent_event=True, worker_send_task_events=True, broker_connection_retry_on_startup=True,
        task_ignore_result=True, broker_transport_options={"queue_order_strategy": "priority"},
        redbeat_redis_url=os.environ["BROKER"],
        beat_schedule={"tick": {"task": "shop.good", "schedule": 2.0, "options": {"queue": "fast"}}},
        worker_prefetch_multiplier=2,
    )  # fmt: skip

    @app.task(name="shop.good")
    def good():
        pass

    @app.task(name="shop.bad")
    def bad():
        raise ValueError("bad")

    @app.task(name="shop.flaky", bind=True, max_retries=3)
    def flaky(self):
        if self.request.retries < 1:
            raise self.retry(countdown=0.1)

    @app.task(name="shop.slow")
    def slow():
        time.sleep(600)

    return app


def celery_send(queue: str, name: str, n: str) -> None:
    app = celery_app()
    with app.connection_for_write() as connection:
        for _ in range(int(n)):
            app.send_task(name, queue=queue, connection=connection)


def celery_length(queue: str) -> None:
    """What kombu itself says of a queue."""
    with celery_app().connection_for_read() as connection:
        print(json.dumps(connection.default_channel.queue_declare(queue, passive=True).message_count))


def django_setup():
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="test",
        USE_TZ=True,
        INSTALLED_APPS=["django_tasks_redis"],
        TASKS={
            "default": {
                "BACKEND": "django_tasks_redis.RedisTaskBackend",
                "QUEUES": QUEUES,
                "OPTIONS": {"REDIS_URL": os.environ["REDIS"]},
            }
        },
    )
    django.setup()


def django_send(queue: str, name: str, n: str) -> None:
    django_setup()
    import apps_tasks

    for _ in range(int(n)):
        getattr(apps_tasks, name).using(queue_name=queue).enqueue()


def django_later(queue: str, name: str, seconds: str) -> None:
    """A task that is due in some seconds; without a worker of its queue nobody moves it then."""
    django_setup()
    from datetime import timedelta

    import apps_tasks
    from django.utils import timezone

    getattr(apps_tasks, name).using(
        queue_name=queue, run_after=timezone.now() + timedelta(seconds=int(seconds))
    ).enqueue()


def django_stats() -> None:
    """What the library itself says of its queues."""
    django_setup()
    from django_tasks_redis.executor import get_queue_stats

    print(json.dumps({queue: get_queue_stats(queue_name=queue) for queue in QUEUES}, default=str))


def django_work(queue: str) -> None:
    django_setup()
    from django.core.management import call_command

    call_command("run_redis_tasks", f"--queue={queue}", verbosity=0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
else:
    app = celery_app() if "BROKER" in os.environ else None
