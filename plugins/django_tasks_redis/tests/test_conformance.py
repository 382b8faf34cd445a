"""The adapter contract, with real tasks in a real queue."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskq_exporter.testing import AdapterConformance, Server, World

pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")]


class TestConformance(AdapterConformance):
    adapter = "django_tasks_redis"
    golden = Path(__file__).with_name("golden.prom")

    @pytest.fixture
    def world(self, redis_own: Server, make_project: Callable[..., Any]) -> World:
        project = make_project(redis_own.url)
        project.enqueue("add", 3)
        project.enqueue("boom", 2)
        project.process()
        project.enqueue("add", 4, priority=10)
        project.enqueue("add", 2, queue_name="emails", delay=3600)

        def work() -> None:
            project.enqueue("add", 20, queue_name="emails")
            project.enqueue("boom", 5)
            workers = [project.work() for _ in range(2)]
            for worker in workers:
                assert worker.wait(60) == 0

        return World(
            url=redis_own.url,
            server=redis_own,
            options={"poll_interval": "100ms"},
            tasks={"default": {"ready": 4, "succeeded": 3, "failed": 2}, "emails": {"scheduled": 2}},
            series={
                'taskq_tasks_by_priority{queue="default",state="ready",priority="high"}': 4,
                'taskq_tasks_by_priority{queue="default",state="ready",priority="normal"}': 0,
                'taskq_tasks_overdue{queue="emails"}': 0,
                'taskq_tasks_enqueued_total{queue="default",task="",priority="normal"}': 5,
                'taskq_tasks_enqueued_total{queue="default",task="",priority="high"}': 4,
            },
            work=work,
            finished={
                ("default", "django_project.add", "succeeded"): 4,
                ("default", "django_project.boom", "failed"): 5,
                ("emails", "django_project.add", "succeeded"): 20,
            },
        )
