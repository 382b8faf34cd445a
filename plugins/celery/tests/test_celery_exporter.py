"""The names and labels of danihodovic/celery-exporter, with a real worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from other_exporter import THEIR_PYTHON, THEIRS, CeleryExporter

from taskq_exporter.commands.checkup import lines
from taskq_exporter.testing import Page, watch
from taskq_exporter.testing.page import check_openmetrics
from taskq_exporter.view.doctor import examine

TASK = "celery_project."


def told(page: Page, family: str, *labels: str) -> dict[tuple[str, ...], float]:
    return {key: n for key, n in page.by(family, *labels).items() if n}


async def test_every_family_under_their_labels(redis_url: str, project: Any) -> None:
    worker = project.worker("-c", "3", "--heartbeat-interval", "1")
    async with watch({"adapter": "celery", "url": redis_url, "compat": ["celery-exporter"]}, follow=True) as watched:
        await watched.following()
        worker.ready()
        first = project.send("slow", 60)[0]
        await watched.until(lambda p: p.value("celery_worker_tasks_active", hostname="host") == 1, "one runs")
        project.app.control.revoke(first, terminate=True)
        for task in ("fail", "soft", "retry", "reject"):
            project.send(task)
        project.send("ok", n=3)
        project.send("ok", n=2, queue="unread")
        page = await watched.until(
            lambda p: (
                p.total("celery_task_succeeded_total") == 4
                and p.total("celery_task_failed_total") == 2
                and p.total("celery_worker_tasks_active") == 0
                and p.value("celery_active_process_count", queue_name="celery") == 3
            ),
            "all have ended",
        )
        check_openmetrics(await watched.openmetrics())
        (found,) = (report := await examine(watched.exporter)).sources
    assert [cost.mapping for cost in found.compat] == ["celery-exporter"]
    assert found.compat[0].series == sum(name.startswith("celery_") for name, _ in page.series())
    assert found.compat[0].more == {
        "hostname, name, queue_name": 40,
        "name, queue_name": 1,
        "exception, hostname, name, queue_name": 1,
    }
    assert "; tasks bring 40 for each hostname, name, queue_name;" in " ".join(" ".join(lines(report)).split())
    at_host = ("name", "hostname", "queue_name")
    sent = {"slow": 1, "fail": 1, "soft": 1, "retry": 3, "reject": 1, "ok": 3}
    assert told(page, "celery_task_sent_total", *at_host) == {
        **{(TASK + task, "generic", "celery"): n for task, n in sent.items()},
        (TASK + "ok", "generic", "unread"): 2,
    }
    here = {(TASK + task, "host", "celery"): n for task, n in sent.items()}
    assert told(page, "celery_task_received_total", *at_host) == here
    assert told(page, "celery_task_started_total", *at_host) == here
    ok = {(TASK + "ok", "host", "celery"): 3, (TASK + "retry", "host", "celery"): 1}
    assert told(page, "celery_task_succeeded_total", *at_host) == ok
    assert told(page, "celery_task_runtime_count", *at_host) == ok
    assert told(page, "celery_task_failed_total", *at_host, "exception") == {
        (TASK + "fail", "host", "celery", "ValueError"): 1,
        (TASK + "soft", "host", "celery", "SoftTimeLimitExceeded"): 1,
    }
    assert told(page, "celery_task_rejected_total", *at_host) == {(TASK + "reject", "host", "celery"): 1}
    assert told(page, "celery_task_revoked_total", *at_host) == {(TASK + "slow", "host", "celery"): 1}
    assert told(page, "celery_task_retried_total", *at_host) == {(TASK + "retry", "host", "celery"): 2}
    assert told(page, "celery_task_queue_wait_time_count", *at_host) == here
    assert page.by("celery_worker_up", "hostname") == {("host",): 1}
    assert page.by("celery_queue_length", "queue_name") == {("celery",): 0, ("unread",): 2}
    assert page.by("celery_active_worker_count", "queue_name") == {("celery",): 1, ("unread",): 0}
    assert page.by("celery_active_consumer_count", "queue_name") == {("celery",): 1, ("unread",): 0}
    assert page.by("celery_active_process_count", "queue_name") == {("celery",): 3, ("unread",): 0}
    bounds = {le for (le,) in page.by("celery_task_runtime_bucket", "le")}
    assert {"0.005", "0.75", "10.0", "+Inf"} <= bounds
    assert len(bounds) == 15
    # a task that never failed has its 0, as there
    assert page.by("celery_task_failed_total", *at_host, "exception")[TASK + "ok", "host", "celery", ""] == 0
    # what is there without a mapping is as it was
    assert page.by("taskq_tasks_finished_total", "task", "outcome")[TASK + "ok", "succeeded"] == 3
    assert page.by("taskq_tasks_finished_total", "worker").keys() == {("",)}


# --- beside the other one


@pytest.fixture(params=["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.newest)])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def other(url: str) -> Iterator[CeleryExporter]:
    if not THEIR_PYTHON.exists():
        message = "celery-exporter is not installed: make bench/.venvs/celery-exporter/.installed"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with CeleryExporter(THEIRS, url) as exporter:
        yield exporter


def comparable(page: Page) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Their series without what only one of them has; a sum to microseconds."""
    return {
        (name, frozenset(label for label in labels if label[0] != "source")): round(value, 6)
        for (name, labels), value in page.series().items()
        if name.startswith("celery_") and not name.endswith("_created")
    }


@pytest.mark.full
@pytest.mark.newest
async def test_both_say_the_same_of_one_broker(url: str, make_project: Any, other: CeleryExporter) -> None:
    """Each series of theirs stands on our page with its value, but where theirs is wrong."""
    project = make_project(url)
    workers = [project.worker("-c", "2", "--heartbeat-interval", "1", name=f"w@h{i}") for i in (1, 2)]
    source = {"adapter": "celery", "url": url, "compat": ["celery-exporter"]}
    async with watch(source, follow=True) as watched:
        await watched.following()
        for worker in workers:
            worker.ready()
        for task in ("ok", "fail", "soft", "slow"):
            project.send(task, *([0.2] if task == "slow" else []), n=5)
        await watched.until(
            lambda p: p.total("celery_task_succeeded_total") == 10 and p.total("celery_task_failed_total") == 10,
            "all have ended",
            60,
        )
        theirs = comparable(await asyncio.to_thread(other.page))
        ours = comparable(await watched.until(lambda p: p.total("celery_worker_tasks_active") == 0, "the workers rest"))
    missing = {
        series: value
        for series, value in theirs.items()
        if ours.get(series) != value and not is_a_zero_of_a_producer(series, value)
    }
    assert not missing
    assert len(theirs) > 100
    more = {name for name, _ in ours.keys() - theirs.keys()}
    assert {name.rpartition("_")[0] if "wait_time" in name else name for name in more} <= {
        "celery_task_queue_wait_time",  # newer than what is published
        "celery_active_consumer_count",  # theirs only of RabbitMQ
    }


def is_a_zero_of_a_producer(series: tuple[str, frozenset[tuple[str, str]]], value: float) -> bool:
    """It starts celery_task_sent_total at 0 for the worker too, which never sends."""
    name, labels = series
    return name == "celery_task_sent_total" and value == 0 and ("hostname", "generic") not in labels
