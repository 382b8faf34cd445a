"""Celery, django-tasks-redis and a jobs table through one exporter, one schema, one page."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskq_exporter.testing import Server
from taskq_exporter.testing.child import clean_environment
from taskq_exporter.testing.page import Page, check_text
from taskq_exporter.testing.processes import free_port
from taskq_exporter.testing.watch import config_file

pytestmark = [
    pytest.mark.py312,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12"),
]


def sources(apps: Any, jobs: Any) -> list[dict[str, Any]]:
    return [
        {"name": "shop", "adapter": "celery", "url": apps.env["BROKER"], "timeout": "2s"},
        {
            "name": "web",
            "adapter": "django_tasks_redis",
            "url": apps.env["REDIS"],
            "timeout": "2s",
            "poll_interval": "500ms",
        },
        {**jobs.source, "timeout": "2s"},
    ]


def once(config: Path) -> tuple[int, Page]:
    command = [sys.executable, "-m", "taskq_exporter", "once", f"--config.file={config}"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, Page(done.stdout)


def test_once_reports_the_three_through_the_same_families(apps: Any, jobs: Any, tmp_path: Path) -> None:
    apps.run("celery_send", "emails", "shop.good", "5")
    apps.run("celery_send", "celery", "shop.bad", "2")
    apps.run("django_send", "mails", "good", "4")
    apps.run("django_send", "default", "bad", "3")
    apps.run("django_work", "default")
    jobs.enqueue("good", 6)
    jobs.enqueue("bad", 1)
    jobs.work(2)

    status, page = once(config_file(tmp_path, *sources(apps, jobs)))
    assert status == 0
    check_text(page.text)

    ready = page.by("taskq_tasks", "source", "queue", state="ready")
    assert {key: n for key, n in ready.items() if n} == {
        ("shop", "emails"): apps.run("celery_length", "emails"),
        ("shop", "celery"): apps.run("celery_length", "celery"),
        ("web", "mails"): 4,
        ("billing", "bills"): 5,
    }
    for queue, stats in apps.run("django_stats").items():
        of_queue = page.by("taskq_tasks", "state", source="web", queue=queue)
        assert of_queue["ready",] + of_queue["scheduled",] == stats["pending_count"]
        assert (of_queue["running",], of_queue["succeeded",], of_queue["failed",]) == (
            stats["running_count"],
            stats["successful_count"],
            stats["failed_count"],
        )
    for source in ("shop", "web", "billing"):
        assert page.value("taskq_source_up", source=source) == 1
    for source in ("web", "billing"):  # Celery's messages do not tell when they were sent
        assert page.values("taskq_oldest_task_age_seconds", source=source, state="ready")


def test_one_server_down_leaves_the_others_alone_and_everything_counts(
    apps: Any, jobs: Any, redis_own: Server, start_exporter: Callable[..., Any]
) -> None:
    exporter = start_exporter(*sources(apps, jobs))

    def until(condition: Callable[[Page], object], what: str, seconds: float = 40) -> Page:
        deadline = time.monotonic() + seconds
        while not condition(page := exporter.page()):
            assert time.monotonic() < deadline, f"{what}\n{page.text}\n{exporter.log}"
            time.sleep(0.1)
        return page

    def followers(page: Page) -> dict[tuple[str, ...], float]:
        return page.by("taskq_source_follower_up", "source")

    all_follow = {("shop",): 1, ("web",): 1, ("billing",): 1}
    until(lambda page: followers(page) == all_follow, "all follow")
    apps.celery_worker("emails,celery")
    apps.run("celery_send", "emails", "shop.good", "30")
    apps.run("celery_send", "celery", "shop.bad", "10")
    apps.run("django_send", "mails", "good", "20")
    apps.run("django_work", "mails")
    jobs.enqueue("good", 25)
    jobs.work(25)
    expected = {
        ("shop", "emails", "succeeded"): 30,
        ("shop", "celery", "failed"): 10,
        ("web", "mails", "succeeded"): 20,
        ("billing", "bills", "succeeded"): 25,
    }

    def finished(page: Page) -> dict[tuple[str, ...], float]:
        return {k: n for k, n in page.by("taskq_tasks_finished_total", "source", "queue", "outcome").items() if n}

    until(lambda page: finished(page) == expected, "all finished work is counted")

    for break_it, mend, reason in (
        (redis_own.freeze, redis_own.thaw, "timeout"),
        (redis_own.stop, redis_own.start, "connect"),
    ):
        break_it()
        try:
            for _ in range(2):
                begun = time.monotonic()
                request = urllib.request.Request(
                    f"http://{exporter.address}/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "3"}
                )
                with urllib.request.urlopen(request, timeout=10) as answer:
                    page = Page(answer.read().decode())
                assert time.monotonic() - begun < 3
                up = page.by("taskq_source_up", "source")
                assert up == {("shop",): 0, ("web",): 0, ("billing",): 1}
                assert page.values("taskq_tasks", source="billing")
                assert not page.values("taskq_tasks", source="web")
            page = exporter.page()
            assert finished(page) == expected, "counters stay"
            assert page.total("taskq_source_errors_total", source="web", reason=reason) >= 1
        finally:
            mend()
        until(lambda page: set(page.by("taskq_source_up", "source").values()) == {1}, f"up again after {reason}")
        until(lambda page: followers(page) == all_follow, f"all follow again after {reason}")
    jobs.enqueue("bad", 2)
    jobs.work(2)
    expected["billing", "bills", "failed"] = 2
    until(lambda page: finished(page) == expected, "it goes on counting")


def test_queues_are_found_in_the_environment_also_when_they_come_later(apps: Any) -> None:
    port = free_port()
    env = {
        **clean_environment(),
        "REDIS_URL": apps.env["REDIS"],
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": str(port),
    }
    exporter = subprocess.Popen([sys.executable, "-m", "taskq_exporter", "--log.level=error"], env=env)
    try:

        def page() -> str:
            deadline = time.monotonic() + 20
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                        return str(answer.read().decode())
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)

        assert "taskq_source_up" not in page()
        apps.run("django_send", "mails", "good", "3")
        deadline = time.monotonic() + 30
        while 'taskq_tasks{queue="mails",' not in (text := page()):
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        assert 'state="ready"} 3.0' in text
        assert 'adapter="django_tasks_redis"' in text
    finally:
        exporter.terminate()
        assert exporter.wait(10) == 0
