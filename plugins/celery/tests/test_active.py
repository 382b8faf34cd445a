"""Tasks that ran before the exporter listened: what workers answer that they run, or nothing; never 0."""

from __future__ import annotations

from typing import Any

import pytest
from simulated_world import World
from taskq_exporter_celery import active

from taskq_exporter.testing import watch

RUNNING = {"state": "running"}


async def test_what_runs_is_right_or_absent_from_the_first_page_on(redis_url: str, project: Any) -> None:
    config = {"adapter": "celery", "url": redis_url}
    project.worker("-c", "2", "--heartbeat-interval", "600", queues="a,b").ready()
    async with watch(config, follow=True) as before:
        await before.following()
        for queue in "ab":
            project.send("slow", 60, queue=queue)
        both = {("a",): 1, ("b",): 1}
        await before.until(lambda p: p.by("taskq_tasks", "queue", **RUNNING) == both, "both run")
    async with watch({**config, "name": "asks"}, follow=True) as after:
        page = await after.until(lambda p: p.value("taskq_worker_up"), "it has answered")
        assert page.by("taskq_tasks", "queue", **RUNNING) == both
        assert page.value("taskq_worker_tasks", **RUNNING) == 2
        assert page.value("taskq_workers", state="busy") == 1
        ages = page.by("taskq_task_longest_run_seconds", "queue", "task")
        assert ages.keys() == {("a", "celery_project.slow"), ("b", "celery_project.slow")}
        assert page.total("taskq_tasks_started_total") == 0, "that they began was not heard"
    async with watch({**config, "name": "waits", "inspect": False}, follow=True) as after:
        await after.following()
        page = await after.page()
        assert not page.values("taskq_tasks", **RUNNING)
        assert not page.values("taskq_workers")


# --- what comes in another order, or not at all


def told(uuid: str, at: float, **delivery: Any) -> dict[str, Any]:
    return {"id": uuid, "name": "t", "time_start": at, "delivery_info": delivery or {"routing_key": "q"}}


def running(world: World) -> dict[str, int]:
    return {queue.name: n for queue in world.follower().queues if (n := queue.tasks.get("running"))}


def test_a_start_that_comes_after_the_answer_runs_once() -> None:
    world = World()
    world.beat(active=1)
    world.answer("w@h")
    active.take(world.follower, {"w@h": [told("a", world.now - 10)]}, world.now)
    assert running(world) == {"q": 1}
    world.task("received", "a")
    world.task("started", "a")
    assert running(world) == {"q": 1}
    active.take(world.follower, {"w@h": [told("a", world.now - 10)]}, world.now)
    world.task("succeeded", "a", runtime=1.0)
    active.take(world.follower, {"w@h": [told("a", world.now - 10)]}, world.now)
    assert running(world) == {}


def test_a_worker_that_sends_no_task_events_tells_no_end() -> None:
    world = World()
    world.beat(active=1, processed=1)
    world.answer("w@h")
    active.take(world.follower, {"w@h": [told("a", world.now - 10)]}, world.now)
    assert running(world) == {"q": 1}
    for processed in (2, 3, 4):
        world.beat(active=1, processed=processed)
    assert not world.follower().longest_runs
    assert world.stats().tasks["running"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"error": "KeyError()"},
        [1, None, {}],
        [told("x" * 1000, 1.0)],
        [{"id": "a", "name": "t", "time_start": None}],
        [{"id": "a", "name": "t", "time_start": float("inf"), "delivery_info": 5}],
    ],
)
def test_answers_that_tell_of_no_task(answer: Any) -> None:
    world = World()
    world.beat()
    active.take(world.follower, {"w@h": answer, "stranger@h": [told("a", 1.0)]}, world.now)
    assert not world.follower().longest_runs


def test_the_queue_is_named_or_the_only_one() -> None:
    world = World()
    for name, queues in {"one@h": ("r",), "two@h": ("r", "s")}.items():
        world.answer(name, queues=queues)
        world.beat(name, active=2)
    tasks = [told("0", 1.0, routing_key="q"), told("1", 1.0, exchange="x", routing_key="q")]
    for name in ("one@h", "two@h"):
        named = [{**task, "id": name + task["id"]} for task in tasks]
        active.take(world.follower, {name: named}, world.now)
    assert running(world) == {"q": 2, "r": 1, "": 1}
