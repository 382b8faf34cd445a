"""The names and labels of danihodovic/celery-exporter, with a real worker."""

from __future__ import annotations

from typing import Any

from taskq_exporter.testing import Page, watch

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
            lambda p: p.total("celery_task_succeeded_total") == 4
            and p.total("celery_task_failed_total") == 2
            and p.total("celery_worker_tasks_active") == 0
            and p.value("celery_active_process_count", queue_name="celery") == 3,
            "all have ended",
        )
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
