"""The tasks of the demo's Django project; `python -m taskq_exporter_demo.django_app` sends them."""

# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import random
import time
from datetime import timedelta

import django
from django.tasks import task
from django.utils import timezone

from taskq_exporter_demo.pace import beats


class ImageBroken(Exception):
    """What a thumbnail ends with now and then."""


@task
def index_page(page: int) -> None:  # noqa: ARG001
    """Take a moment."""
    time.sleep(random.uniform(0.02, 0.1))  # noqa: S311


@task(queue_name="thumbnails", priority=10)
def thumbnail(page: int) -> None:
    """Take a little longer; one in twelve images is broken."""
    time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
    if page % 12 == 0:
        raise ImageBroken


@task(queue_name="newsletters", priority=-10)
def newsletter(page: int) -> None:  # noqa: ARG001
    """Take long, when nothing else is to do."""
    time.sleep(random.uniform(1, 4))  # noqa: S311


def produce() -> None:
    """Enqueue tasks for ever."""
    for page in beats(per_second=2):
        index_page.enqueue(page)
        thumbnail.enqueue(page)
        if page % 20 == 5:
            newsletter.enqueue(page)
        if page % 10 == 3:
            index_page.using(run_after=timezone.now() + timedelta(seconds=30)).enqueue(page)


if __name__ == "__main__":
    django.setup()
    # As the module that the worker imports, not as __main__: a task is known by its path.
    from taskq_exporter_demo import django_app

    django_app.produce()
