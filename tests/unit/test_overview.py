"""What people are shown: what is stuck, what is not known, and never a credential."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fakes import configured

from taskq_exporter.api import (
    AdapterError,
    BrokerStats,
    Capability,
    Finding,
    Ledger,
    LongestRun,
    Outcome,
    Problem,
    QueueStats,
    Reason,
    SchedulerStats,
    Snapshot,
    State,
    WorkerState,
    WorkerStats,
)
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import keep_secret
from taskq_exporter.view.overview import QueueOverview, SourceOverview, by_urgency, urgency
from taskq_exporter.view.status import overview

ABLE = tuple(Capability(family="taskq_tasks", state=s) for s in (State.READY, State.RESERVED, State.RUNNING))


def queue(name: str, **of: Any) -> QueueOverview:
    return QueueOverview(name=name, **of)


def test_what_is_stuck_comes_first() -> None:
    right = [
        queue("nobody reads it, older", stuck="no_consumers", tasks={"ready": 1}, oldest_ready=20.0),
        queue("nobody reads it", stuck="no_consumers", tasks={"ready": 900}),
        queue("ten times too late", stuck="late", start_within=30.0, oldest_ready=300.0),
        queue("twice too late", stuck="late", start_within=300.0, oldest_ready=600.0),
        queue("paused", stuck="paused", tasks={"ready": 5}, oldest_ready=9000.0),
        queue("old", oldest_ready=50.0, start_within=60.0, tasks={"ready": 1}),
        queue("young", oldest_ready=2.0, tasks={"ready": 500}),
        queue("runs for long", longest_run=4000.0),
        queue("runs", longest_run=1.0),
        queue("many", tasks={"ready": 10}),
        queue("a", tasks={"ready": 1}),
        queue("b", tasks={"ready": 1}),
        queue("empty", tasks={"ready": 0}),
    ]
    by_name = sorted(right, key=lambda q: q.name)
    assert [q.name for q in sorted(by_name, key=urgency)] == [q.name for q in right]


def test_the_order_goes_over_all_sources() -> None:
    here = SourceOverview(name="b", adapter="fake", state="up", queues=(queue("late", stuck="late"), queue("same")))
    there = SourceOverview(name="a", adapter="fake", state="up", queues=(queue("same"),))
    assert [(s.name, q.name) for s, q in by_urgency([here, there])] == [("b", "late"), ("a", "same"), ("b", "same")]


async def one(collect: Any, *, follow: Any = None, looks: int = 1, **core: Any) -> SourceOverview:
    """What is shown of a source after so many looks."""
    exporter = Exporter()
    try:
        runner = exporter.add(configured({"collect": collect, **({"follow": follow} if follow else {})}, **core))
        for _ in range(200 if follow else 0):
            if runner.following:
                break
            await asyncio.sleep(0.01)
        for _ in range(looks):
            [source] = await overview(exporter)
        return source
    finally:
        await exporter.close()


async def test_a_queue_is_stuck_for_the_worst_reason() -> None:
    async def collect() -> Snapshot:
        old = {State.READY: 31.0}
        return Snapshot(
            queues=[
                QueueStats(name="fine", tasks={State.READY: 1}, oldest_age={State.READY: 29.0}, consumers=1),
                QueueStats(name="late", tasks={State.READY: 1}, oldest_age=old, consumers=1),
                QueueStats(name="unread", tasks={State.READY: 1}, oldest_age=old, consumers=0),
                QueueStats(name="paused", tasks={State.READY: 1}, oldest_age=old, consumers=0, paused=True),
                QueueStats(name="nothing to read", tasks={State.READY: 0}, consumers=0),
                QueueStats(name="nobody knows", oldest_age={State.READY: 500.0}),
            ]
        )

    objectives = [{"queue": q, "start_within": "30s", "ratio": 0.9} for q in ("fine", "late", "unread", "paused")]
    source = await one(collect, objectives=objectives)
    assert {q.name: q.stuck for q in source.queues} == {
        "unread": "no_consumers",
        "late": "late",
        "paused": "paused",
        "fine": "",
        "nothing to read": "",
        "nobody knows": "",
    }
    assert [q.name for q in source.queues][:3] == ["unread", "late", "paused"]
    assert {q.name: q.start_within for q in source.queues}["fine"] == 30


async def test_counts_that_stopped_at_a_limit_are_named() -> None:
    async def collect() -> Snapshot:
        tasks = {State.READY: 100_000, State.SCHEDULED: 3}
        return Snapshot(queues=[QueueStats(name="q", tasks=tasks, capped={State.READY: True, State.SCHEDULED: False})])

    source = await one(collect)
    assert [q.capped for q in source.queues] == [("ready",)]


@pytest.mark.parametrize(
    ("tasks", "able", "backlog"),
    [
        ({State.READY: 5, State.RESERVED: 2, State.RUNNING: 1, State.FAILED: 9}, ABLE, 8),
        ({State.READY: 5, State.RUNNING: 1}, (ABLE[0], ABLE[2]), 6),  # this one cannot tell what is reserved
        ({State.READY: 5, State.RUNNING: 1}, ABLE, None),  # this one can, and does not know it now
        ({State.RESERVED: 2, State.RUNNING: 1}, ABLE, None),
        ({State.READY: 5}, ABLE[:1], None),  # nobody can tell what is held
    ],
)
async def test_backlog_is_a_number_only_where_all_of_it_is_known(
    tasks: dict[State, int], able: tuple[Capability, ...], backlog: int | None
) -> None:
    async def collect() -> Snapshot:  # a problem keeps the core from filling in zeros
        problem = Problem(reason=Reason.TIMEOUT, part="more")
        return Snapshot(queues=[QueueStats(name="q", tasks=tasks)], capabilities=able, problems=[problem])

    source = await one(collect)
    assert [q.backlog for q in source.queues] == [backlog]


async def test_everything_of_a_snapshot_is_there_and_redacted() -> None:
    keep_secret("fake://user:hunter2@host")

    async def collect() -> Snapshot:
        return Snapshot(
            server="redis",
            server_version="7.2",
            queues=[QueueStats(name="q"), QueueStats(name="\ud800" + "x" * 300)],
            longest_runs=[LongestRun(queue="q", task="a", seconds=4), LongestRun(queue="q", task="b", seconds=9)],
            workers=[
                WorkerStats(name="w1", up=True, state=WorkerState.BUSY, tasks={"running": 2}, longest_run=1),
                WorkerStats(name="w2", up=False, state=WorkerState.OFFLINE),
            ],
            schedulers=[SchedulerStats(name="beat", up=True, entry_count=3)],
            broker=BrokerStats(memory_bytes=5),
            capabilities=ABLE[:1],
            problems=[Problem(reason=Reason.PERMISSION, part="workers", message="hunter2 may not")],
            findings=[Finding(level="note", text="hunter2", advice="not hunter2")],
        )

    source = await one(collect, annotations={"team": "growth"})
    assert "hunter2" not in repr(source)
    assert (source.state, source.reason) == ("partial", "permission")
    assert source.message == "cannot read workers: *** may not"
    assert (source.findings[0].text, source.findings[0].advice) == ("***", "not ***")
    assert (source.server, source.server_version, source.annotations) == ("redis", "7.2", {"team": "growth"})
    assert [(w.name, w.running, w.state) for w in source.workers] == [("w2", None, "offline"), ("w1", 2, "busy")]
    assert source.worker_states == {"idle": 0, "busy": 1, "offline": 1}
    assert [(s.name, s.entries) for s in source.schedulers] == [("beat", 3)]
    assert (source.queues_total, source.workers_total) == (2, 2)
    by_name = {q.name: q for q in source.queues}
    assert by_name["q"].longest_run == 9
    assert max(map(len, by_name)) == 256
    assert all(name.encode() for name in by_name)
    assert source.capabilities[0].can
    assert source.broker is not None
    assert source.broker.memory_bytes == 5


async def test_a_source_goes_from_starting_to_up_to_down_and_keeps_its_last_error() -> None:
    keep_secret("fake://user:hunter2@host")
    answers: list[Any] = [
        Snapshot(),
        AdapterError(Reason.CONNECT, "hunter2 refused"),
        Snapshot(queues=None),
        Snapshot(),
    ]  # type: ignore[arg-type]

    async def collect() -> Snapshot:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Snapshot)
        return answer

    exporter = Exporter()
    exporter.add(configured({"collect": collect}))
    [source] = await overview(exporter, patience=0)
    assert (source.state, source.snapshot_age, source.last_error) == ("starting", None, None)
    [source] = await overview(exporter, max_age=60)
    assert (source.state, source.last_error) == ("up", None)
    assert source.snapshot_age is not None
    assert len(answers) == 3, "the look before will do"
    [source] = await overview(exporter)
    assert (source.state, source.reason, source.message) == ("down", "connect", "*** refused")
    assert (source.queues, source.snapshot_age) == ((), None)
    [source] = await overview(exporter)
    assert (source.state, source.reason) == ("down", "bug"), "a record that is none costs its source alone"
    [source] = await overview(exporter)
    assert (source.state, source.reason, source.last_error) == ("up", None, "bug")
    assert await overview(exporter, ["nobody"]) == []
    await exporter.close()


async def test_a_follower_counts_and_one_that_does_not_follow_makes_a_source_partial() -> None:
    async def collect() -> Snapshot:
        return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 1})])

    async def follow(ledger: Ledger) -> None:
        ledger.counts("finished")
        ledger.following()
        ledger.finished("q", "t", Outcome.SUCCEEDED)
        await asyncio.sleep(3600)

    async def fails(ledger: Ledger) -> None:
        raise AdapterError(Reason.PERMISSION, "no")

    source = await one(collect, follow=follow)
    assert (source.state, source.following) == ("up", True)
    source = await one(collect, follow=fails)
    assert (source.state, source.following, source.last_error) == ("partial", False, "permission")
    assert source.message == "the follower does not follow: nothing is counted"


async def test_a_source_that_hangs_is_shown_as_it_was_and_no_error_is_made_of_it() -> None:
    gate = asyncio.Event()
    gate.set()

    async def collect() -> Snapshot:
        await gate.wait()
        return Snapshot(queues=[QueueStats(name="q", tasks={State.READY: 4})])

    exporter = Exporter()
    runner = exporter.add(configured({"collect": collect}, timeout=60))
    await overview(exporter)
    gate.clear()
    [source] = await overview(exporter, patience=0.05)
    assert (source.state, source.queues[0].tasks) == ("up", {"ready": 4})
    assert source.snapshot_age is not None
    assert source.snapshot_age > 0
    gate.set()
    await overview(exporter)
    assert not runner.failures.counts, "nobody's impatience is an error of the source"
    assert replace(source, snapshot_age=None).last_error is None
    await exporter.close()
