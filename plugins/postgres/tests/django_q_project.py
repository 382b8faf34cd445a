"""A Django project with django-q2, in processes of its own that import this and call run()."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

function, url, *_ = sys.argv[1:]
#: A cluster that reads a queue: the function's name says which.
QUEUE = function.removeprefix("work-") if function.startswith("work-") else "site"
PARTS = conninfo_to_dict(url)
os.environ["Q_CLUSTER_NAME"] = QUEUE
settings.configure(
    SECRET_KEY="test",
    USE_TZ=True,
    INSTALLED_APPS=["django_q"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": PARTS["dbname"],
            "USER": PARTS["user"],
            "PASSWORD": PARTS["password"],
            "HOST": PARTS["host"],
            "PORT": PARTS["port"],
        }
    },
    Q_CLUSTER={
        "name": "site",
        "orm": "default",
        "workers": 2,
        "timeout": 2,
        "retry": 3 if QUEUE == "images" else 3600,
        "poll": 0.05,
        "guard_cycle": 0.1,
        "ALT_CLUSTERS": {},
    },
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django_q.brokers import get_broker  # noqa: E402
from django_q.cluster import Cluster  # noqa: E402
from django_q.models import OrmQ, Schedule, Task  # noqa: E402
from django_q.tasks import async_task, schedule  # noqa: E402


def mail() -> None:
    pass


def boom() -> None:
    raise ValueError("secret of a traceback")


def flaky() -> None:
    if not Task.objects.filter(func="django_q_project.flaky").exists():
        raise ValueError("not yet")


def old() -> None:
    """The library's tables before tasks told their cluster; a task that ended."""
    call_command("migrate", "django_q", "0016", verbosity=0)
    now = datetime.now(UTC)
    connection.cursor().execute(
        "INSERT INTO django_q_task (id, name, func, started, stopped, success, attempt_count)"
        " VALUES ('1', 'one', 'django_q_project.mail', %s, %s, true, 1)",
        [now, now],
    )


def fill() -> None:
    """Make the tables, and tasks; one that a cluster took that has gone since; schedules."""
    call_command("migrate", verbosity=0)
    for _ in range(2):
        async_task(mail, cluster="slow")
    (taken, *_) = get_broker("slow").dequeue()
    assert taken
    OrmQ.objects.filter(key="slow", lock__lt=datetime.now(UTC)).delete()
    for _ in range(40):
        async_task(mail, cluster="emails")
    async_task(flaky, cluster="images")
    for _ in range(2):
        async_task(boom, cluster="images", ack_failure=True)
    ran, due = datetime(2026, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    parts = {"name": "one", "func": "django_q_project.mail", "started": ran, "stopped": ran}
    last = Task.objects.create(id="0" * 32, cluster="emails", **parts)
    schedule("django_q_project.mail", name="nightly", schedule_type=Schedule.DAILY, next_run=due)
    Schedule.objects.update(task=last.id)
    schedule("django_q_project.mail", schedule_type=Schedule.DAILY, next_run=due, repeats=0)


def work() -> None:
    """A cluster, until its queue is empty."""
    cluster = Cluster()
    cluster.start()
    while OrmQ.objects.filter(key=QUEUE).exists():
        time.sleep(0.05)
    cluster.stop()


def run() -> None:
    """Run one of the functions above."""
    {"old": old, "fill": fill}.get(function, work)()
