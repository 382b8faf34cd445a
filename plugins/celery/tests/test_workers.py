"""Which workers live, and what they say of themselves, from their events and their answers; the clock is simulated."""

from __future__ import annotations

from typing import Any

import pytest
from simulated_world import World, work
from taskq_exporter_celery import inspection
from taskq_exporter_celery.broker import Answers
from taskq_exporter_celery.follower import GRACE

from taskq_exporter.api import AdapterError, Reason, State, WorkerState

# --- alive or not


def test_a_solo_worker_without_remote_control_is_up_until_the_ttl() -> None:
    """It sends nothing during a task, not even that it began: a long task shows afterwards that it is solo."""
    world = World(inspect=False)
    world.beat(processed=0)
    began = world.now + 0.5
    world.wait(70)
    assert world.stats().up is False, "it may be any worker that is gone"
    world.task("received", "a", timestamp=began)
    world.task("started", "a", timestamp=began)
    world.task("succeeded", "a", runtime=70.0)
    world.beat(processed=1)
    world.wait(300)
    assert world.stats().up
    assert world.stats().state is WorkerState.BUSY
    assert world.stats().tasks["running"] == 1
    assert world.stats().longest_run == pytest.approx(300, abs=3)
    world.wait(400)
    assert not world.follower().workers


def test_a_worker_that_beat_during_a_task_is_down_when_it_beats_no_more() -> None:
    world = World(inspect=False)
    world.task("started", "a")
    world.beat(n=2, active=1, processed=1)
    world.wait(70)
    assert world.stats().state is WorkerState.OFFLINE
    assert world.stats().tasks["running"] == 0


def test_a_busy_solo_worker_is_up_as_long_as_it_listens() -> None:
    world = World()
    world.beat(processed=0)
    world.answer("w@h", pool="solo")
    for _ in range(60):
        world.wait(30)
        world.answer(listeners=1, listening=frozenset({"w@h"}))
    assert world.stats().up
    assert world.stats().state is WorkerState.BUSY
    assert world.stats().longest_run == pytest.approx(1806, abs=1)
    assert {q.name: q.tasks[State.RUNNING] for q in world.follower().queues} == {"q": 1}, "it reads no other"
    world.wait(30)
    world.answer(listeners=0, gone=frozenset({"w@h"}))
    world.wait(31)
    assert world.stats().state is WorkerState.OFFLINE
    assert world.ledger.totals["lost"] == 1


def test_of_two_busy_solo_workers_one_is_killed() -> None:
    """Which of them still listens cannot be told: both are up, until one is heard of."""
    world = World()
    for name in ("a@h", "b@h"):
        world.beat(name, processed=0)
    world.answer("a@h", "b@h", pool="solo")
    for _ in range(5):
        world.wait(30)
        world.answer(listeners=1)
    assert world.follower().worker_states[WorkerState.BUSY] == 2
    assert world.follower().worker_states[WorkerState.SILENT] == 0
    world.beat("a@h", processed=1)
    world.answer("a@h", pool="solo", gone=frozenset({"b@h"}))
    world.wait(1)
    assert {w.name: w.up for w in world.follower().workers} == {"a@h": True, "b@h": False}


def test_a_worker_that_listens_and_does_not_answer() -> None:
    world = World()
    world.beat(processed=0)
    world.answer("w@h")
    world.wait(30)
    world.answer(listeners=1, listening=frozenset({"w@h"}))
    view = world.follower()
    assert view.worker_states == {
        WorkerState.IDLE: 0,
        WorkerState.BUSY: 0,
        WorkerState.OFFLINE: 0,
        WorkerState.SILENT: 1,
    }
    assert world.stats().up, "until the heartbeat timeout"
    assert any("w@h" in f.text for f in view.findings)
    for _ in range(40):
        world.wait(30)
        world.answer(listeners=1, listening=frozenset({"w@h"}))
    assert world.stats().up is False
    assert world.stats().state is WorkerState.SILENT, "and it is not forgotten"
    world.beat(processed=0)
    assert world.stats().state is WorkerState.IDLE


def test_subscribers_that_are_nobody_we_know() -> None:
    world = World()
    world.beat(processed=0)
    world.answer("w@h", listeners=3)
    view = world.follower()
    assert view.worker_states[WorkerState.SILENT] == 2
    able = {c.family: c.able for c in view.capabilities}
    assert able["taskq_worker_slots"]
    assert not able["taskq_queue_consumers"], "they may read any queue: no reader is not 0"
    world.answer("w@h")
    assert {c.family: c.able for c in world.follower().capabilities}["taskq_queue_consumers"]


def test_a_worker_that_only_answers() -> None:
    """Started with --without-heartbeat."""
    world = World()
    for _ in range(10):
        world.answer("w@h", total=5)
        world.wait(30)
    assert world.stats().up
    assert (world.stats().state, world.stats().tasks) == (None, {}), "nobody knows what it does"
    assert world.stats().last_heartbeat is None
    world.answer(listeners=0, gone=frozenset({"w@h"}))
    world.wait(1)
    assert world.stats().up is False
    world.wait(700)
    assert not world.follower().workers


def test_a_worker_only_ever_seen_in_task_events_is_forgotten() -> None:
    world = World()
    work(world, range(1))
    world.wait(GRACE)
    assert world.stats().up is None
    world.wait(700)
    assert not world.follower().workers


def test_beat_is_no_worker() -> None:
    world = World()
    world.answer("celerybeat@h", "w@h")
    assert [w.name for w in world.follower().workers] == ["w@h"]
    assert world.follower().worker_states[WorkerState.SILENT] == 0


# --- what workers say of themselves


def test_slots_and_consumers_of_queues() -> None:
    world = World()
    world.answer("a@h", "b@h", queues=("q", "r"))
    world.answer("c@h", queues=("r",), listeners=3)
    found = {q.name: (q.consumers, q.slots) for q in world.follower().queues}
    assert found == {"q": (2, 4), "r": (3, 6)}
    told = world.stats("c@h")
    assert (told.pool, told.slots, told.prefetch_limit) == ("prefork", 2, 8)
    assert told.started == pytest.approx(world.now - 60, abs=1)
    world.wait(3)
    started = world.stats("a@h").started
    world.answer("a@h", "b@h", queues=("q", "r"))
    assert world.stats("a@h").started == started, "whole seconds do not make it jump"
    world.send({"type": "worker-offline", "hostname": "a@h"})
    assert {q.name: (q.consumers, q.slots) for q in world.follower().queues}["q"] == (1, 2)


def test_a_queue_that_a_worker_reads_is_where_its_tasks_come_from() -> None:
    world = World()
    world.beat("one@h")
    world.beat("two@h")
    world.answer("one@h", queues=("q",))
    world.answer("two@h", queues=("q", "r"), listeners=2)
    world.task("received", "a", "one@h")
    world.task("received", "b", "two@h")
    world.task("received", "c", "three@h")
    world.wait(GRACE + 1)
    assert world.ledger.queues == {"q": 1, "": 2}


@pytest.mark.parametrize(
    "replies",
    [
        {"stats": {"w@h": []}, "active_queues": {"w@h": {}}},
        {"stats": {"w@h": {"pool": 1, "uptime": "x", "prefetch_count": -1, "total": 3, "pid": "x"}}},
        {"stats": {"w@h": {"pool": {"implementation": 5, "max-concurrency": 1e99}, "total": {"t": "x"}}}},
        {"active_queues": {"w@h": [1, {"name": 2}, {"name": "x" * 1000}]}},
        {"ping": {"x" * 1000: {"ok": "pong"}}},
        {"stats": {"w@h": {"error": "KeyError()"}}},
    ],
)
def test_answers_that_are_none(replies: dict[str, Any]) -> None:
    """Whoever can publish can answer."""
    world = World()
    world.beat()
    world.follower.inspected.take(Answers(listeners=1, replies=replies), world.follower.workers, world.now, world.now)
    (told,) = world.follower().workers
    assert (told.slots, told.prefetch_limit, told.started) == (None, None, None)
    assert not [q for q in world.follower().queues if q.slots]


def test_a_round_that_fails_is_a_problem_and_a_missing_right_is_none() -> None:
    world = World()
    world.answer("w@h")
    inspected, workers = world.follower.inspected, world.follower.workers
    inspected.failed(AdapterError(Reason.TIMEOUT, "no answer"), workers)
    view = world.follower()
    assert [p.reason for p in view.problems] == [Reason.TIMEOUT]
    assert view.workers[0].slots == 2, "what it said stays"
    inspected.failed(AdapterError(Reason.PERMISSION, "no right"), workers)
    view = world.follower()
    assert not view.problems
    reasons = {c.family: c.reason for c in view.capabilities}
    told = (*inspection.BY_WORKER, "taskq_queue_slots", "taskq_queue_consumers")
    assert {reasons[family] for family in told} == {"permission"}
    assert any("inspect: false" in f.advice for f in view.findings)


def test_answers_in_a_form_that_is_not_read() -> None:
    world = World()
    world.answer(listeners=2, unreadable=2)
    view = world.follower()
    assert view.worker_states[WorkerState.SILENT] == 0
    assert any("task_serializer" in f.advice for f in view.findings)
    assert not {c.family: c.able for c in view.capabilities}["taskq_queue_slots"]
