"""Django tasks; a module of its own, because a task is known by its path."""

# mypy: ignore-errors

from __future__ import annotations

from django.tasks import task


@task
def good():
    pass


@task
def bad():
    raise ValueError("bad")
