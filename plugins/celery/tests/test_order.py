"""Events in the orders that Celery 5.7 was seen to send them in, and in worse ones; the clock is simulated."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from taskq_exporter_celery.backlog import Backlog
from taskq_exporter_celery.events import decode
from taskq_exporter_celery.follower import GRACE, Follower
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.tasks import TTL, Tasks
from taskq_exporter_celery.workers import FIRST_BEAT, Workers

from taskq_exporter.api import Outcome, Snapshot, Source, State


class Recorder:
    """A ledger that keeps what it is told."""

    run_bounds: tuple[float, ...] = (1.0,)
    wait_bounds: tuple[float, ...] = (1.0,)

    def __init__(self) -> None:
        self.cursor: Any = None
        self.view: Callable[[], Snapshot] | None = None
        self.totals: Counter[tuple[str, ...]] = Counter()
        self.runs: list[float] = []
        self.waits: list[float] = []
        self.declared: set[str] = set()

    def counts(self, *what: str) -> None:
        self.declared |= set(what)

    def ran(self, queue: str, task: str, outcome: str, seconds: float, worker: str = "") -> None:
        self.totals["ran", queue, task, str(outcome)] += 1
        self.runs.append(round(seconds, 3))

    def waited(self, queue: str, seconds: float, task: str = "", worker: str = "") -> None:
        self.waits.append(round(seconds, 3))

    def __getattr__(self, name: str) -> Callable[..., None]:
        def record(*labels: Any, **_: Any) -> None:
            if name in ("events", "workers_started", "workers_lost", "commands"):
                self.totals[name,] += int(labels[0]) if labels else 1
            elif name == "dropped":
                self.totals[name, str(labels[0])] += int(labels[1]) if len(labels) > 1 else 1
            elif name not in ("gap", "following"):
                used = labels[:3] if name in ("finished", "exception") else labels[:2]
                self.totals[(name, *map(str, used))] += 1

        return record


class World:
    """A follower, its ledger and a clock."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_000_000.0
        self.ledger = Recorder()
        source = Source(
            name="test",
            adapter="celery",
            url=lambda: "",
            options=CeleryOptions(**options),
            worker_ttl=600,
        )
        self.follower = Follower(source, self.ledger, lambda: self.now)
        self.follower.resume()
        self.now += FIRST_BEAT  # who works has had time to tell

    def send(self, *events: dict[str, Any]) -> None:
        """Events of one message, a millisecond apart."""
        for event in events:
            self.now += 0.001
            event.setdefault("timestamp", self.now)
        body = base64.b64encode(json.dumps(events).encode()).decode()
        message = {"body": body, "content-type": "application/json", "properties": {"body_encoding": "base64"}}
        self.follower.feed([json.dumps(message).encode()], decode)

    def wait(self, seconds: float) -> Snapshot:
        """Let time pass, in the steps in which the adapter looks at the clock."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.5, until)
            self.follower.sweep()
        return self.follower()

    def total(self, *key: str) -> int:
        return sum(n for k, n in self.ledger.totals.items() if k[: len(key)] == key)

    def running(self) -> dict[str, int]:
        return {queue.name: queue.tasks[State.RUNNING] for queue in self.follower().queues}


def sent(uuid: str = "u", retries: int = 0, **more: Any) -> dict[str, Any]:
    fields = {"type": "task-sent", "hostname": "gen1@web", "uuid": uuid, "name": "t", "queue": "q"}
    return {**fields, "retries": retries, "eta": None, **more}


def received(uuid: str = "u", retries: int = 0, host: str = "w@h", **more: Any) -> dict[str, Any]:
    return {"type": "task-received", "hostname": host, "uuid": uuid, "name": "t", "retries": retries, **more}


def event(kind: str, uuid: str = "u", host: str = "w@h", **more: Any) -> dict[str, Any]:
    return {"type": f"task-{kind}", "hostname": host, "uuid": uuid, **more}


def heartbeat(host: str = "w@h", active: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "worker-heartbeat", "hostname": host, "freq": 2.0, "active": active, "processed": 1, **more}


@pytest.mark.parametrize("late", range(4))
def test_task_sent_that_comes_late(late: int) -> None:
    """The worker's events wait for it: the queue is right for all of them."""
    world = World()
    at = world.now
    worker = [received(), event("started", timestamp=at + 0.25), event("succeeded", runtime=0.5)]
    for message in [*worker[:late], sent(timestamp=at), *worker[late:]]:
        world.send(message)
    assert world.ledger.totals == {
        ("enqueued", "q", "t"): 1,
        ("received", "q", "t"): 1,
        ("started", "q", "t"): 1,
        ("finished", "q", "t", "succeeded"): 1,
        ("ran", "q", "t", "succeeded"): 1,
        ("events",): 4,
    }
    assert world.ledger.waits == [0.25]


def test_task_sent_that_never_comes() -> None:
    """After a grace the events count without a queue, and later ones do not wait."""
    world = World()
    world.send(received("a"), event("started", "a"))
    assert world.total("received") == 0
    world.wait(GRACE + 1)
    assert world.total("started", "", "t") == 1
    world.send(received("b"), event("started", "b"), event("succeeded", "b", runtime=1.0))
    assert world.total("finished", "", "t", "succeeded") == 1
    assert "enqueued" not in world.ledger.declared


def test_where_others_of_its_name_went_says_nothing_of_a_task() -> None:
    world = World()
    world.send(sent("a"), received("b"))
    world.wait(GRACE + 1)
    assert world.total("received", "", "t") == 1


def test_a_retry_without_task_sent_may_go_to_another_queue() -> None:
    world = World()
    world.follower.tasks.learn("t-1", "t", 0, "q")
    world.send(received("t-1"), event("started", "t-1"), event("retried", "t-1", exception="KeyError('x')"))
    world.send(received("t-1", retries=1), event("started", "t-1"))
    world.wait(GRACE + 1)
    world.follower.tasks.learn("t-1", "t", 1, "other")
    world.send(event("succeeded", "t-1", runtime=1.0))
    counted = {key: n for key, n in world.ledger.totals.items() if key[0] in ("received", "retried", "finished")}
    assert counted == {
        ("received", "q", "t"): 1,
        ("retried", "q", "t"): 1,
        ("received", "", "t"): 1,
        ("finished", "other", "t", "succeeded"): 1,
    }


def test_events_seen_from_the_middle() -> None:
    world = World()
    world.send(event("succeeded", "a", runtime=2.0), event("failed", "b", exception="ValueError()"))
    world.wait(GRACE + 1)
    assert world.total("finished", "", "") == 2
    assert world.ledger.runs == [2.0]


@pytest.mark.parametrize(
    "order",
    [
        ["retried0", "sent1", "received1", "started1"],
        ["sent1", "received1", "retried0", "started1"],
        ["received1", "started1", "sent1", "retried0"],
        ["received1", "sent1", "started1", "retried0"],
    ],
)
def test_a_retry(order: list[str]) -> None:
    """The next try is told of before or after the end of this one."""
    world = World()
    told = {
        "retried0": event("retried", exception="KeyError('x')"),
        "sent1": sent(retries=1),
        "received1": received(retries=1),
        "started1": event("started"),
    }
    world.send(sent(), received(), event("started"))
    world.send(*(told[name] for name in order))
    assert world.running() == {"q": 1}
    world.send(event("succeeded", runtime=0.25))
    world.wait(GRACE + 1)
    assert world.ledger.totals == {
        ("enqueued", "q", "t"): 2,
        ("received", "q", "t"): 2,
        ("started", "q", "t"): 2,
        ("retried", "q", "t"): 1,
        ("exception", "q", "t", "KeyError"): 1,
        ("finished", "q", "t", "succeeded"): 1,
        ("ran", "q", "t", "retried"): 1,
        ("ran", "q", "t", "succeeded"): 1,
        ("events",): 8,
    }
    assert world.running() == {}
    assert len(world.ledger.waits) == 2


def test_a_hard_time_limit_fails_twice() -> None:
    world = World()
    failed = event("failed", exception="TimeLimitExceeded(1,)")
    world.send(sent(), received(), event("started"), dict(failed), dict(failed))
    assert world.total("finished") == world.total("ran") == world.total("exception") == 1


def test_rejected_and_then_failed() -> None:
    """acks_on_failure_or_timeout=False: the message is rejected before the failure is told."""
    world = World()
    world.send(sent(), received(), event("started"), event("rejected", requeue=False))
    world.send(event("failed", exception="ValueError()"))
    assert world.total("finished") == world.total("finished", "q", "t", "rejected") == 1
    assert world.total("exception", "q", "t", "ValueError") == 1


def test_delivered_again() -> None:
    """By the visibility timeout: both workers run it; it ends for good once."""
    world = World()
    world.send(sent(), received(host="a@h"), event("started", host="a@h"))
    world.send(received(host="b@h"), event("started", host="b@h"))
    assert world.total("redelivered", "q", "t") == 1
    world.send(event("succeeded", host="b@h", runtime=1.0))
    assert world.running() == {"q": 1}
    world.send(event("succeeded", host="a@h", runtime=2.0))
    assert world.total("finished") == 1
    assert world.ledger.runs == [1.0, 2.0]
    assert world.running() == {}
    assert len(world.ledger.waits) == 1


def test_a_fixed_id_used_again() -> None:
    world = World()
    for _ in range(3):
        world.send(sent("nightly"), received("nightly"), event("started", "nightly"))
        world.send(event("succeeded", "nightly", runtime=1.0))
    assert world.total("finished") == 3
    assert world.total("redelivered") == 0


def test_a_countdown_is_no_wait() -> None:
    world = World()
    world.send(sent(eta="1970-01-12T13:47:40+00:00"), received())  # 1,000,060
    world.now = 1_000_060.25
    world.send(event("started", timestamp=1_000_060.5))
    assert world.ledger.waits == [0.5]


def test_ignore_ends_by_the_workers_own_count() -> None:
    world = World()
    world.send(heartbeat())
    world.send(sent(), received(), event("started"))
    world.send(heartbeat(active=0))
    assert world.running() == {"q": 1}, "its end may be on the way"
    world.send(heartbeat(active=0))
    assert world.running() == {}
    assert world.total("finished") == 0


def test_workers_that_fall_silent() -> None:
    world = World(heartbeat_timeout=10)
    world.send({**heartbeat("a@h"), "type": "worker-online"}, {**heartbeat("b@h"), "type": "worker-online"})
    world.send(sent(), received(host="a@h"), event("started", host="a@h"), heartbeat("a@h", active=1))
    world.wait(GRACE)
    assert world.running() == {"q": 1}
    for _ in range(6):
        world.wait(2)
        world.send(heartbeat("b@h"))
    up = {w.name: w.up for w in world.follower().workers}
    assert up == {"a@h": False, "b@h": True}
    assert world.running() == {}
    assert world.total("workers_lost") == 1
    world.follower.resume()  # after a time without a connection
    for _ in range(400):
        world.wait(2)
        world.send(heartbeat("b@h"))
    assert [w.name for w in world.follower().workers] == ["b@h"]


def test_clocks_that_differ_do_no_harm() -> None:
    """A worker an hour ahead is alive, and its tasks run for as long as we saw them."""
    world = World()
    world.send(heartbeat(timestamp=world.now + 3600))
    world.send(sent(), received(timestamp=world.now + 3600), event("started", timestamp=world.now + 3600))
    world.send(heartbeat(active=1, timestamp=world.now + 3602))
    view = world.wait(2)
    assert view.workers[0].up
    assert 1.9 < view.longest_runs[0].seconds < 2.5


def test_the_table_is_bounded() -> None:
    ledger = Recorder()
    workers = Workers(ledger, timeout=60, ttl=600)
    tasks = Tasks(ledger, workers, limit=1000, recent=100)
    for i in range(1500):
        tasks.sent(f"u{i}", "t", "q", 0, 1.0, now=float(i))
        tasks.started(f"u{i}", "w@h", 1.0, now=float(i))
    assert len(tasks) == 1000
    assert ledger.totals["dropped", "overflow"] == 500
    assert len(next(iter(workers)).runs) == 1000
    for i in range(500, 1500):
        tasks.ended(f"u{i}", Outcome.SUCCEEDED, "w@h", 2.0, 2.0)
    assert len(tasks) == 0
    assert sum(tasks.knows(f"u{i}") for i in range(1500)) <= 200
    tasks.sent("old", "t", "q", 0, 1.0, now=0.0)
    tasks.sweep(TTL + 1)
    assert len(tasks) == 0


def test_a_heartbeat_that_overtakes_the_end() -> None:
    """The worker counts the task no more, and its end is told of a moment later, or twice."""
    world = World()
    world.send(heartbeat(), sent(), received(), event("started", timestamp=world.now + 1), heartbeat(active=1))
    world.now += 2
    world.send(heartbeat(active=1), heartbeat(active=0))
    assert world.running() == {}
    assert world.follower.tasks.has_started("u"), "it is not reserved again"
    failed = event("failed", exception="ValueError()", timestamp=world.now + 1)
    world.send(dict(failed), dict(failed))
    assert world.total("finished") == world.total("finished", "q", "t", "failed") == 1
    assert len(world.ledger.runs) == 1
    assert world.ledger.runs[0] > 1


def test_a_fixed_id_used_again_after_an_end_that_was_not_told() -> None:
    world = World()
    for _ in range(2):
        world.send(heartbeat(), sent("nightly"), received("nightly"), event("started", "nightly"))
        world.send(heartbeat(active=1), heartbeat(active=0))
    assert world.total("redelivered") == 0
    assert len(world.ledger.waits) == 2


def test_delivered_again_after_an_end_that_was_not_told() -> None:
    """The worker lost its connection, and with it the task."""
    world = World()
    world.send(heartbeat(), sent(), received(), event("started"), heartbeat(active=1), heartbeat(active=0))
    world.send(received(), event("started"), event("succeeded", runtime=1.0))
    assert world.total("redelivered") == 1
    assert world.total("finished") == 1


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_task_that_replaces_itself(late: int) -> None:
    """`self.replace()` keeps the uuid and sends no event at the end of the first task."""
    world = World()
    world.send(sent(), received(), event("started"))
    second = [received(name="t2"), event("started")]
    for message in [*second[:late], sent(name="t2", queue="q2"), *second[late:]]:
        world.send(message)
    assert sum(world.running().values()) == 1
    assert [run.task for run in world.follower().longest_runs] == ["t2"]
    world.send(event("succeeded", runtime=1.0))
    assert world.running() == {}
    assert world.total("redelivered") == 0
    assert world.total("finished") == world.total("finished", "q2", "t2", "succeeded") == 1
    assert len(world.ledger.waits) == 2


def test_a_task_with_a_shadow_name_is_not_replaced() -> None:
    world = World()
    world.send(sent(), received(name="shadow"), event("started"), event("succeeded", runtime=1.0))
    assert world.total("redelivered") == 0
    assert world.total("finished") == len(world.ledger.waits) == 1


@pytest.mark.parametrize("sign", [{"pid": 2, "processed": 5}, {"pid": 1, "processed": 0}, {"pid": 1, "processed": 5}])
def test_a_worker_that_is_killed_and_comes_back_under_its_name(sign: dict[str, int]) -> None:
    """Another pid tells, and in containers, where that is often the same, the count that starts anew."""
    anew = sign != {"pid": 1, "processed": 5}  # else it only connected to the broker again
    world = World()
    online = {**heartbeat(), "type": "worker-online"}
    world.send({**online, "pid": 1, "processed": 0}, sent(), received(), event("started"))
    world.send(heartbeat(active=1, pid=1, processed=5), {**online, "active": int(not anew), **sign})
    assert world.total("workers_started") == 1 + anew
    assert world.total("workers_lost") == anew
    assert world.running() == ({} if anew else {"q": 1})
    if anew:
        assert not world.follower.tasks.has_started("u"), "its message waits to be delivered again"
        world.send(received(), event("started"), event("succeeded", runtime=1.0))
        assert world.total("redelivered") == 1
        assert world.total("finished") == 1


def able(world: World) -> set[bool]:
    return {c.able for c in world.follower().capabilities if c.state == State.RUNNING}


def test_tasks_that_began_before_we_listened() -> None:
    world = World()
    world.send(heartbeat(active=3))
    assert world.running() == {}
    assert able(world) == {False}, "no worker ever told what it runs"
    world.send(sent(), received(), event("started"), heartbeat(active=4))
    assert able(world) == {True}
    assert world.running() == {"q": 1, "": 3}
    world.send(heartbeat(active=1))
    assert world.running() == {"q": 1}


def test_a_start_that_a_heartbeat_overtook_is_not_counted_twice() -> None:
    world = World()
    world.send(sent(), received(), heartbeat(active=0))
    world.now += 2
    at = world.now
    world.send(heartbeat(active=1))
    assert able(world) == {True}
    assert world.running() == {}
    world.send(event("started", timestamp=at), heartbeat(active=1))
    assert world.running() == {"q": 1}


def test_workers_that_send_no_events_beside_one_that_does() -> None:
    world = World()
    world.send(sent(), received(), event("started"), heartbeat(active=1), heartbeat("silent@h", active=2))
    assert world.running() == {"q": 1, "": 2}
    world.send({"type": "worker-offline", "hostname": "silent@h"})
    assert world.running() == {"q": 1}


@pytest.mark.parametrize("held_back", [True, False])
def test_an_event_that_raises_is_dropped(held_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    if not held_back:
        world.send(sent())
    monkeypatch.setattr(world.follower.tasks, "started", lambda *_: 1 / 0)
    world.send(event("started"), event("succeeded", runtime=1.0))
    world.wait(GRACE + 1)
    assert world.total("dropped", "decode") == 1
    assert world.total("finished") == 1


@pytest.mark.parametrize("beats", [True, False])
def test_an_end_that_falls_into_a_gap(beats: bool) -> None:
    """A worker's heartbeats say what still runs; of one that sends none it is not known."""
    world = World()
    world.send(sent(), received(), event("started"), *([heartbeat(active=1)] if beats else []))
    world.follower.resume()
    assert world.running() == ({"q": 1} if beats else {})
    world.send(event("succeeded", runtime=1.0))
    assert world.running() == {}
    assert world.total("finished") == 1


def test_a_task_sent_that_comes_after_the_end_still_tells_the_wait() -> None:
    """A worker's own, of a retry that is over within milliseconds."""
    world = World()
    world.send(sent(), received(), event("started"), received(retries=1), event("retried"))
    at = world.now
    world.send(event("started", timestamp=at + 3), event("succeeded", runtime=0.001))
    world.send(sent(retries=1, timestamp=at + 1))
    assert world.ledger.waits == [0.002, 2.0]


def test_a_retry_that_is_sent_while_the_try_before_it_runs_has_not_waited_yet() -> None:
    world = World()
    world.send(sent(), received(), event("started"), sent(retries=1), event("retried"))
    at = world.now
    world.send(received(retries=1), event("started", timestamp=at + 5))
    assert world.ledger.waits == [0.002, 5.001]


def test_the_oldest_of_a_queue_that_nobody_may_look_into() -> None:
    world = World()
    for i in range(5):
        world.send(sent(f"u{i}", timestamp=world.now + i))
    backlog = world.follower.tasks.backlog
    sent_at = [world.now - 0.005 + 0.001 * (i + 1) + i for i in range(5)]
    oldest, bound = backlog.oldest("q", 5) or (0.0, True)
    assert (round(oldest - sent_at[0], 1), bound) == (0, False)
    world.send(received("u0"), received("u1"))
    oldest, bound = backlog.oldest("q", 3) or (0.0, True)
    assert (round(oldest - sent_at[2], 1), bound) == (0, False)
    assert (backlog.oldest("q", 4) or (0, False))[1], "one was sent before we listened"
    oldest, _ = backlog.oldest("q", 1) or (0.0, True)
    assert round(oldest - sent_at[4], 1) == 0, "the events of two receptions were lost"
    assert backlog.oldest("other", 1) is None


def test_a_backlog_is_bounded() -> None:
    backlog = Backlog(limit=10)
    for i in range(100):
        backlog.sent("a" if i % 3 else "b", str(i), float(i))
    assert len(backlog) == 10
    assert backlog.oldest("a", 1) == (98.0, False)
    assert backlog.oldest("b", 1) == (99.0, False)
    for i in range(100):
        backlog.taken("a" if i % 3 else "b", str(i))
    assert len(backlog) == 0
    assert backlog.oldest("a", 1) is None


def test_a_hundred_thousand_tasks_in_flight() -> None:
    world = World()
    ids = [f"u{i}" for i in range(100_000)]
    for uuid in ids:
        world.follower.feed([[received(uuid, name=f"t{int(uuid[1:]) % 50}", timestamp=1.0)]], list)
    for uuid in ids:
        world.follower.feed([[event("started", uuid, timestamp=1.0)]], list)
    world.wait(2.0)
    for uuid in ids:
        world.follower.feed([[event("succeeded", uuid, timestamp=1.0, runtime=0.1)]], list)
    assert all(world.total("finished", "", f"t{i}", "succeeded") == 2000 for i in range(50))
    assert len(world.follower.tasks) == 0


@pytest.mark.parametrize("sent_first", [False, True])
def test_a_start_that_overtakes_its_reception_has_a_name(sent_first: bool) -> None:
    """The threads pool sends both from different threads."""
    world = World()
    if sent_first:
        world.send(sent("other"), received("other"), event("started", "other"))
    else:
        world.send(received("other"))
        world.wait(GRACE + 1)
    before = world.total("started", "", "")
    world.send(event("started"), event("succeeded", runtime=0.1), received())
    world.wait(GRACE + 1)
    assert world.total("started", "", "") == before
    assert world.total("started", "", "t") == 1
    assert world.total("finished", "", "t", "succeeded") == 1


def test_a_start_whose_reception_never_comes_is_counted() -> None:
    world = World()
    world.send(received("other"))
    world.wait(GRACE + 1)
    world.send(event("started"), event("succeeded", runtime=0.1))
    assert world.total("started", "", "") == 0
    world.wait(GRACE + 1)
    assert world.total("started", "", "") == 1
    assert world.total("finished", "", "", "succeeded") == 1


def test_a_retry_that_was_held_back_as_a_whole() -> None:
    """Its first task-sent came last: each try has waited."""
    world = World()
    first = world.now + 0.001
    world.send(received(), event("started"), received(retries=1), event("retried"), event("started"))
    world.send(event("succeeded", runtime=0.1), sent(timestamp=first))
    world.send(sent(retries=1, timestamp=first + 0.002))
    world.wait(GRACE + 1)
    assert world.ledger.waits == [0.001, 0.002]
    assert world.total("started", "q", "t") == 2


def test_a_start_that_the_sending_of_the_next_try_overtakes() -> None:
    """They come from different processes of a worker."""
    world = World()
    world.send(sent(), received(), event("started"), received(retries=1), sent(retries=1), event("retried"))
    at = world.now
    world.send(sent(retries=2, timestamp=at + 3), event("started", timestamp=at + 2), received(retries=2))
    world.send(event("retried"), event("started", timestamp=at + 7), event("succeeded", runtime=0.1))
    assert world.ledger.waits == [0.002, 2.001, 4.0]
