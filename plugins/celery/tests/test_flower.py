"""The names and labels of Flower, with a real worker."""

from __future__ import annotations

from typing import Any

from taskq_exporter.testing import watch

TASK = "celery_project."


async def test_what_waits_at_a_worker_by_task(redis_url: str, project: Any) -> None:
    worker = project.worker("-c", "1", "--heartbeat-interval", "1")
    async with watch({"adapter": "celery", "url": redis_url, "compat": ["flower"]}, follow=True) as watched:
        await watched.following()
        worker.ready()
        first = project.send("slow", 60)[0]
        await watched.until(lambda p: p.total("flower_worker_number_of_currently_executing_tasks") == 1, "one runs")
        waiting = project.send("ok", n=2)
        project.send("ok", countdown=60)
        held = "flower_worker_prefetched_tasks"
        at = {"worker": "w1@host", "task": f"{TASK}ok"}
        page = await watched.until(lambda p: p.value(held, **at) == 2, "two wait, and one for its ETA")
        assert page.value(held, worker="w1@host", task=f"{TASK}slow") == 0
        project.app.control.revoke(waiting[0])
        project.app.control.revoke(first, terminate=True)
        page = await watched.until(
            lambda p: (
                p.total("flower_events_total", type="task-succeeded") == 1
                and p.total("flower_events_total", type="task-revoked") == 2
            ),
            "one was taken off, the other has run",
        )
        assert page.value(held, **at) == 0
        assert page.value("flower_task_prefetch_time_seconds", **at) == 0  # it has ended
        assert page.value("flower_worker_online", worker="w1@host") == 1
        assert page.by("flower_task_runtime_seconds_count", "worker", "task") == {("w1@host", f"{TASK}ok"): 1}
        project.send("ok")
        project.send("slow", 0.5)
        waited = "flower_task_prefetch_time_seconds"
        await watched.until(lambda p: p.total("flower_events_total", type="task-succeeded") == 3, "both have run")
        project.send("slow", 3)
        project.send("slow", 3)
        page = await watched.until(lambda p: p.total(waited, task=f"{TASK}slow") > 1, "the second waited")
        assert 2 < page.total(waited, task=f"{TASK}slow") < 30


async def test_without_the_mapping_there_are_no_pairs(redis_url: str, project: Any) -> None:
    worker = project.worker("-P", "solo", "--heartbeat-interval", "1")
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        worker.ready()
        project.send("ok")
        page = await watched.until(lambda p: p.total("taskq_tasks_finished_total") == 1, "it has run")
    assert "prefetch" not in "".join(name for name, _ in page.series() if "limit" not in name)
