"""Which queue a task is of where no task-sent tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from taskq_exporter_celery.learned import MESSAGES, Learned
from taskq_exporter_celery.on_redis import broker

from taskq_exporter.testing import watch

FINISHED = "taskq_tasks_finished_total"


@pytest.mark.newest
async def test_tasks_of_one_name_go_to_two_queues_of_one_worker(
    redis_url: str, make_project: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some the message is seen before a worker takes it; what is known of them says nothing of the others."""
    monkeypatch.setattr(broker, "LOOK_AT_TAILS_EVERY", 0.1)
    project = make_project(redis_url)
    project.app.conf.task_send_sent_event = False
    project.send("ok", queue="a")
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        age = "taskq_oldest_task_age_seconds"
        await watched.until(lambda p: p.value(age, queue="a", state="ready"), "its message was seen")
        project.worker("-P", "solo", queues="a,b", task_send_sent_event=False).ready()
        await watched.until(lambda p: p.value(FINISHED, queue="a", outcome="succeeded") == 1, "it is of that queue")
        project.send("ok", n=20, queue="b")
        page = await watched.until(lambda p: p.total(FINISHED) == 21, "all have ended")
    for family in (FINISHED, "taskq_tasks_received_total", "taskq_tasks_started_total"):
        assert page.total(family, queue="a") == 1, page.by(family, "queue")


def test_a_message_tells_of_its_own_try_alone() -> None:
    learned = Learned()
    learned.saw("u", "t", 1, "q")
    assert learned.queue_of("u", "t", 1, {"q", "r"}) == "q"
    assert learned.queue_of("u", "t", 2, {"q", "r"}) == ""
    assert learned.queue_of("u", "other", 1, {"r"}) == "r"
    assert learned.queue_of("v", "t", 1, None) == ""


def test_messages_are_remembered_up_to_a_limit() -> None:
    learned = Learned()
    for i in range(MESSAGES + 1):
        learned.saw(str(i), "t", 0, "q")
    assert [learned.queue_of(str(i), "t", 0, None) for i in (0, 1, MESSAGES)] == ["", "q", "q"]
