"""A Django project with django-tasks-db, in processes of its own.

`python -c "import django_db_project; django_db_project.FUNCTION()"` with the database's parts in the environment.
"""

# mypy: disable-error-code="no-untyped-call,no-any-return,untyped-decorator"

from __future__ import annotations

import os
import time
from datetime import timedelta

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    USE_TZ=True,
    INSTALLED_APPS=["django_tasks_db"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
        }
    },
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}},
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.tasks import task  # noqa: E402
from django.utils import timezone  # noqa: E402


@task
def mail() -> None:
    pass


@task
def boom() -> None:
    raise ValueError("secret of a traceback")


@task
def nap() -> None:
    time.sleep(3600)


def fill() -> None:
    """Make the tables, and tasks."""
    call_command("migrate", verbosity=0)
    for _ in range(3):
        mail.using(queue_name="emails").enqueue()
    mail.using(queue_name="emails", priority=7).enqueue()
    mail.using(queue_name="emails", run_after=timezone.now() + timedelta(hours=1)).enqueue()
    mail.using(queue_name="images", run_after=timezone.now() + timedelta(milliseconds=1)).enqueue()
    boom.using(queue_name="images").enqueue()


def take() -> None:
    """Take a task, as a worker does, and leave it."""
    from django_tasks_db.models import DBTaskResult

    nap.using(queue_name="images", priority=100).enqueue()
    DBTaskResult.objects.ready().get(task_path__endswith="nap").claim("w1")


def work() -> None:
    """The library's own worker, until nothing is ready."""
    call_command("db_worker", batch=True, verbosity=0, queue_name="*", reload=False, interval=0, startup_delay=False)
