"""Events that did not arrive, by the workers' own counts; and what workers hold. The clock is simulated."""

from __future__ import annotations

import pytest
from simulated_world import World, work
from taskq_exporter_celery import worker

from taskq_exporter.api import WorkerState

# --- what a worker holds


def test_reserved_and_scheduled_tasks_of_a_worker() -> None:
    world = World()
    world.online()
    assert world.held() == {}, "it may send no task events"
    world.task("received", "a")
    world.task("received", "b")
    world.task("received", "later", eta="1970-01-12T13:48:20+00:00")  # in 100 seconds
    assert world.held() == {"reserved": 2, "scheduled": 1}
    world.task("started", "a")
    world.task("revoked", "b")
    assert world.held() == {"reserved": 0, "scheduled": 1}
    assert world.stats().tasks["running"] == 1
    for _ in range(60):
        world.beat(active=1)
    assert world.held() == {"reserved": 1, "scheduled": 0}, "it is due"
    world.task("started", "later")
    assert world.held() == {"reserved": 0, "scheduled": 0}


def test_what_a_worker_holds_is_not_known_when_a_part_was_not_followed() -> None:
    world = World()
    world.beat(processed=7)
    world.task("received", "a")
    assert world.held() == {}, "it may hold others"
    world.follower.workers.nothing_held()
    world.task("started", "a")
    world.task("received", "b")
    assert world.held() == {"reserved": 1, "scheduled": 0}
    world.follower.resume()
    assert world.held() == {}
    world.online(processed=8)  # it connected again too, and gave back what it held
    world.task("received", "c")
    assert world.held() == {"reserved": 1, "scheduled": 0}


def test_what_a_busy_solo_worker_holds_is_not_known() -> None:
    """It tells of nothing that it was delivered until the task has ended."""
    world = World()
    world.online()
    world.answer("w@h", pool="solo")
    work(world, range(1))
    assert world.held() == {"reserved": 0, "scheduled": 0}
    world.answer(listeners=1, listening=frozenset({"w@h"}))
    assert world.stats().state is WorkerState.BUSY
    assert world.held() == {}


def test_what_a_worker_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HELD", 10)
    world = World()
    world.online()
    for i in range(11):
        world.task("received", str(i))
    assert world.held() == {}


# --- lost events


@pytest.mark.parametrize("lost", [0, 1, 7])
@pytest.mark.parametrize("online", [True, False])
def test_lost_starts_are_counted_exactly(lost: int, online: bool) -> None:
    world = World()
    if online:
        world.online()
    world.beat(processed=0)
    work(world, range(10))
    world.beat(processed=10)
    world.beat(processed=10)
    work(world, range(10, 30), lost=lost)
    world.beat(n=5, processed=30)
    assert world.missed == lost


def test_what_happened_before_the_worker_was_seen_is_not_lost() -> None:
    world = World()
    world.beat(processed=1000)
    work(world, range(5))
    world.beat(n=4, processed=1005)
    assert world.missed == 0


def test_starts_that_a_heartbeat_overtakes_are_not_lost() -> None:
    """The events of a worker leave it in batches, its heartbeats at once."""
    world = World()
    world.online()
    for i in range(20):
        at = world.now + 1
        world.beat(processed=i + 1)
        world.task("started", str(i), timestamp=at)
    assert world.missed == 0


def test_a_start_while_a_heartbeat_is_made_is_not_lost() -> None:
    """With the threads pool either may be first, by time and by count."""
    world = World()
    world.online()
    for i in range(20):
        world.task("started", str(i), timestamp=world.now + 2 + (0.01 if i % 2 else -0.01))
        world.beat(processed=i + i % 2)
    world.beat(n=4, processed=20)
    assert world.missed == 0


def test_starts_lost_while_the_connection_was() -> None:
    world = World()
    world.beat(n=3, processed=100)
    work(world, range(10))
    world.beat(n=2, processed=110)
    work(world, range(10, 20), lost=10)
    world.wait(10)
    world.follower.resume()
    work(world, range(20, 25))
    world.beat(n=4, processed=125)
    assert world.missed == 10


def test_a_worker_restarted_while_the_connection_was_lost() -> None:
    """Another process has its name; what it did in that time is lost."""
    world = World()
    world.online()
    work(world, range(10))
    world.beat(n=3, processed=10)
    world.follower.resume()
    work(world, range(20, 25))
    world.beat(n=4, pid=2, processed=8)
    assert world.missed == 3


def test_a_worker_restarted_before_our_eyes_lost_nothing() -> None:
    world = World()
    world.online()
    work(world, range(10))
    world.beat(n=3, processed=10)
    world.online(pid=2)
    work(world, range(20, 25))
    world.beat(n=4, pid=2, processed=5)
    assert world.missed == 0
    assert world.ledger.totals["started"] == 2


def test_a_worker_without_task_events_lost_none() -> None:
    world = World()
    world.online()
    for i in range(5):
        world.beat(processed=i)
    world.follower.resume()
    world.beat(n=4, processed=50)
    assert world.missed == 0
    samples = {s.family: s.value for s in world.follower().samples}
    assert samples["taskq_celery_workers_without_task_events"] == 1
    assert samples["taskq_celery_worker_processed_total"] == 50
    assert any("-E" in f.advice for f in world.follower().findings)


def test_task_events_that_are_switched_off_and_on() -> None:
    world = World()
    world.online()
    work(world, range(10))
    world.beat(n=3, processed=10)
    for i in range(11, 20):
        world.beat(processed=i)
    assert any("-E" in f.advice for f in world.follower().findings)
    work(world, range(20, 25))
    world.beat(n=3, processed=24)
    assert not any("-E" in f.advice for f in world.follower().findings)
    work(world, range(30, 35), lost=2)
    world.beat(n=4, processed=29)
    assert world.missed == 2, "those alone"


def test_events_that_are_held_back_are_not_lost() -> None:
    """For a task-sent that may come; with heartbeats that come faster than it is waited for."""
    world = World()
    world.online()
    for i in range(10):
        world.task("started", str(i))
        for _ in range(4):
            world.wait(0.3)
            world.send({"type": "worker-heartbeat", "hostname": "w@h", "freq": 0.3, "pid": 1, "processed": i + 1})
            assert not any("-E" in f.advice for f in world.follower().findings)
    world.beat(n=4, processed=10)
    assert world.missed == 0
