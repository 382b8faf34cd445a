"""What `check` says of applications that tell everything, and of those that do not."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

import pytest
import redis
from taskq_exporter_celery.view import SEND_SENT, USE_E

from taskq_exporter.testing.watch import Watch, watch
from taskq_exporter.view.doctor import Checkup, examine


async def checkup(watched: Watch) -> Checkup:
    (source,) = (await examine(watched.exporter)).sources
    return source


async def until(watched: Watch, text: str) -> Checkup:
    """The first look that finds something with this text."""
    async with asyncio.timeout(30):
        while True:
            source = await checkup(watched)
            if any(text in finding.text for finding in source.findings):
                return source
            await asyncio.sleep(0.2)


def advice(source: Checkup) -> dict[str, str]:
    """What to change, by what cannot be told."""
    return {c.family + (f" {c.state}" if c.state else ""): c.advice for c in source.capabilities if not c.can}


async def test_workers_without_task_events(redis_url: str, project: Any) -> None:
    project.worker("-P", "solo", worker_send_task_events=False).ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        source = await until(watched, "no task was seen to run yet")
        assert source.healthy
        project.send("ok", n=3)
        source = await until(watched, "1 workers run tasks and send no task events, e.g. w1@host")
        assert not source.healthy
        assert advice(source)["taskq_tasks_finished_total"] == USE_E
        (worker,) = source.workers
        assert (worker.name, worker.pool, worker.slots, worker.up) == ("w1@host", "solo", 1, True)


async def test_producers_without_task_sent(redis_url: str, project: Any) -> None:
    project.app.conf.task_send_sent_event = False
    project.worker("-P", "solo", "-E", worker_send_task_events=False, task_send_sent_event=False).ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        source = await until(watched, "producers send no task-sent events")
        assert source.healthy  # a note
        lacks = advice(source)
        assert lacks["taskq_tasks_enqueued_total"] == lacks["taskq_task_wait_duration_seconds"] == SEND_SENT
        assert "taskq_tasks_finished_total" not in lacks


async def test_an_application_that_tells_everything(redis_url: str, project: Any) -> None:
    project.worker("-P", "threads", "-c", "3").ready()
    async with watch({"adapter": "celery", "url": redis_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        await watched.until(lambda p: p.total("taskq_tasks_finished_total") == 3, "all have ended")
        source = await checkup(watched)
        assert source.healthy
        assert {finding.level for finding in source.findings} == {"ok"}
        assert [queue.name for queue in source.queues] == ["celery"]
        assert advice(source) == {}
        assert source.grants == ""
        labels = {cost.label: cost for cost in source.labels}
        assert labels["le"].series == 15 * 2 == labels["le"].without * 15  # one task of one queue ran, and waited


async def test_a_user_who_may_not_ask_workers(redis_url: str, project: Any) -> None:
    project.worker("-P", "solo").ready()
    with redis.Redis.from_url(redis_url) as client:
        rights = "on >secret ~* &* +@all -publish -sadd -rpush -lindex"
        client.execute_command("ACL", "SETUSER", "taskq_exporter", *shlex.split(rights))
    url = redis_url.replace("redis://", "redis://taskq_exporter:secret@")
    async with watch({"adapter": "celery", "url": url}, follow=True) as watched:
        await watched.following()
        source = await until(watched, "workers cannot be asked")
        lacks = advice(source)
        ask = "give the rights that `taskq-exporter grants` prints, or set inspect: false"
        assert lacks["taskq_worker_slots"] == lacks["taskq_queue_consumers"] == ask
        assert lacks["taskq_oldest_task_age_seconds ready"] == "see `taskq-exporter grants`, or set peek: false"
        assert "+publish" in source.grants
        assert "+lindex" in source.grants
        assert all(lacks.values())


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
async def test_results_in_the_broker(redis_url: str, make_project: Any) -> None:
    project = make_project(redis_url, result_backend=redis_url)
    project.declare("emails")
    for i in range(3):
        project.app.backend.store_result(f"id{i}", None, "SUCCESS")
    async with watch({"adapter": "celery", "url": redis_url}) as watched:
        texts = [finding.text for finding in (await checkup(watched)).findings]
    assert "results are kept in the broker's database, at least 3: they share its memory with the queues" in texts


async def test_options_that_switch_things_off(redis_url: str, project: Any) -> None:
    project.declare("emails")
    off = {"adapter": "celery", "url": redis_url, "inspect": False, "peek": False}
    async with watch(off, follow=True) as watched:
        await watched.following()
        lacks = advice(await checkup(watched))
        assert lacks["taskq_worker_slots"] == "set inspect: true"
        assert lacks["taskq_oldest_task_age_seconds ready"] == "set peek: true"


@pytest.mark.newest
async def test_rabbitmq_without_its_management_api(rabbitmq_url: str, make_project: Any) -> None:
    project = make_project(rabbitmq_url)
    project.worker("-P", "solo").ready()
    async with watch({"adapter": "celery", "url": rabbitmq_url}, follow=True) as watched:
        await watched.following()
        project.send("ok", n=3)
        await watched.until(lambda p: p.total("taskq_tasks_finished_total") == 3, "all have ended")
        source = await checkup(watched)
        assert (source.server, source.healthy) == ("rabbitmq", True)
        lacks = advice(source)
        assert lacks["taskq_queue_bytes"] == "set management_url, the address of RabbitMQ's management API"
        assert all(lacks.values())
        assert any(finding.text.startswith("what workers hold is not known") for finding in source.findings)
