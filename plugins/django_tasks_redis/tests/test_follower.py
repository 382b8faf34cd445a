"""What finishes is counted once, by queue, task and outcome, through retries, restarts and several workers at once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from taskq_exporter_django_tasks_redis import adapter
from taskq_exporter_django_tasks_redis.follower import Follower

from taskq_exporter.api import Source

pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")]

ADD, BOOM, FLAKY, SLEEP = (f"django_project.{name}" for name in ("add", "boom", "flaky", "sleep"))


class Following:
    """A follower that polls when the test says so."""

    def __init__(self, source: Source, ledger: Any) -> None:
        self._source = source
        self._ledger = ledger

    async def __aenter__(self) -> Follower:
        self._connection = adapter.connect(self._source)
        client = await self._connection.__aenter__()
        follower = Follower(client.redis, client.keys, client.options, self._ledger)
        await follower.start()
        return follower

    async def __aexit__(self, *raised: Any) -> None:
        await self._connection.__aexit__(*raised)


async def test_counts_what_finishes_from_now_on(project: Any, source: Source, recorder: Any) -> None:
    project.enqueue("add", 2)
    project.process()
    ledger = recorder()
    async with Following(source, ledger) as follower:
        await follower.poll()
        assert ledger.total("finished") == 0
        project.enqueue("add", 3)
        project.enqueue("boom", 2, queue_name="emails")
        project.enqueue("sleep", 1, args=[0.3])
        project.process()
        await follower.poll()
        await follower.poll()
    assert {k: n for k, n in ledger.totals.items() if k[0] in ("finished", "retried", "exception", "dropped")} == {
        ("finished", "default", ADD, "succeeded"): 3,
        ("finished", "default", SLEEP, "succeeded"): 1,
        ("finished", "emails", BOOM, "failed"): 2,
        ("exception", "emails", BOOM, "ValueError"): 2,
    }
    assert len(ledger.runs) == len(ledger.waits) == 6
    assert [0.3 <= seconds < 2 for _, task, _, seconds in ledger.runs if task == SLEEP] == [True]
    assert all(0 <= seconds < 5 for _, _, seconds in ledger.waits)
    assert ledger.lag == 0


async def test_a_delayed_task_waits_from_when_it_was_due(project: Any, source: Source, recorder: Any) -> None:
    ledger = recorder()
    async with Following(source, ledger) as follower:
        project.enqueue("add", 1, delay=1)
        await asyncio.sleep(1.5)
        project.process()
        await follower.poll()
    ((_, _, seconds),) = ledger.waits
    assert 0.4 < seconds < 1  # and not 1.5, since it was enqueued


async def test_retries_by_hand_count_once_each(project: Any, source: Source, recorder: Any, tmp_path: Path) -> None:
    ledger = recorder()
    there = tmp_path / "there"
    async with Following(source, ledger) as follower:
        (task,) = project.enqueue("flaky", args=[str(there)])
        project.process()
        for _ in range(3):
            await follower.poll()
            project.run_by_id(task, allow_retry=True)
        await follower.poll()
        assert ledger.total("finished", "default", FLAKY, "failed") == 4
        assert ledger.total("retried") == 3
        there.touch()
        project.reset(task)
        project.process()
        await follower.poll()
    assert ledger.total("finished", "default", FLAKY, "failed") == 4
    assert ledger.total("finished", "default", FLAKY, "succeeded") == 1
    assert ledger.total("retried") == 4
    assert ledger.total("exception", "default", FLAKY, "RuntimeError") == 4
    assert len(ledger.runs) == 5
    assert len(ledger.waits) == 1  # the first attempt's: a retry does not say since when it waited


async def test_retries_between_two_polls(project: Any, source: Source, recorder: Any, tmp_path: Path) -> None:
    ledger = recorder()
    there = tmp_path / "there"
    async with Following(source, ledger) as follower:
        (task,) = project.enqueue("flaky", args=[str(there)])
        project.process()
        project.run_by_id(task, allow_retry=True)
        there.touch()
        project.run_by_id(task, allow_retry=True)
        await follower.poll()
    assert ledger.total("finished") == ledger.total("finished", "default", FLAKY, "succeeded") == 1
    assert ledger.total("retried") == 2


async def test_a_task_that_is_being_retried_keeps_its_failure(
    project: Any, source: Source, recorder: Any, until: Any
) -> None:
    ledger = recorder()
    async with Following(source, ledger) as follower:
        (task,) = project.enqueue("boom")
        project.process()
        project.reset(task)  # it waits again: its hash says so, the set of failures says nothing any more
        await follower.poll()
        assert ledger.total("finished") == 0
        project.process()
        await follower.poll()
    assert ledger.total("finished", "default", BOOM, "failed") == 1
    assert ledger.total("retried") == 1


async def test_a_task_given_up_after_its_workers_died_counts_once(
    make_project: Any, redis_url: str, source: Source, recorder: Any
) -> None:
    project = make_project(redis_url, options={"REDIS_MAX_DELIVERIES": 1, "REDIS_CLAIM_TIMEOUT": 0.001})
    ledger = recorder()
    async with Following(source, ledger) as follower:
        project.enqueue("die")
        assert project.work().wait(30) == 9
        # A sweep marks it failed, and writes down its end after that: look between the two.
        with redis.Redis.from_url(redis_url, decode_responses=True) as admin:
            (task,) = admin.zrange("django_tasks:default:status_index:RUNNING", 0, -1)
            now = admin.time()
            for key in ("", "default:"):
                admin.zrem(f"django_tasks:default:{key}status_index:RUNNING", task)
                admin.zadd(f"django_tasks:default:{key}status_index:FAILED", {task: now[0] + now[1] / 1e6})
            admin.hset(f"django_tasks:default:result:{task}", "status", "FAILED")
            await follower.poll()
            assert ledger.total("finished") == 0
            admin.zrem("django_tasks:default:status_index:FAILED", task)
            admin.zrem("django_tasks:default:default:status_index:FAILED", task)
            admin.hset(f"django_tasks:default:result:{task}", "status", "RUNNING")
        for _ in range(3):
            project.sweep()
        await follower.poll()
    assert ledger.total("finished", "default", "django_project.die", "failed") == 1
    assert ledger.total("exception", "default", "django_project.die", "TaskAbandoned") == 1
    assert ledger.runs == []  # nobody knows when it ended


async def test_a_task_that_expired_before_it_was_read_is_said_to_be_missed(
    make_project: Any, redis_url: str, source: Source, recorder: Any
) -> None:
    project = make_project(redis_url, options={"REDIS_COMPLETED_TASK_TTL": 1})
    ledger = recorder()
    async with Following(source, ledger) as follower:
        project.enqueue("add", 2)
        project.process()
        await asyncio.sleep(1.2)
        await follower.poll()
    assert ledger.total("dropped", "missed") == 2
    assert ledger.total("finished") == 0


async def test_what_is_no_task_holds_up_none(project: Any, source: Source, recorder: Any, redis_url: str) -> None:
    """Hashes that others changed: what they do not say is not counted, and the tasks beside them are, once."""
    ledger = recorder()
    deep = "[" * 100_000
    async with Following(source, ledger) as follower:
        first, second, third, *_ = project.enqueue("add", 6)
        failed, failed_too = project.enqueue("boom", 2)
        project.process()
        with redis.Redis.from_url(redis_url) as admin:
            admin.hset(f"django_tasks:default:result:{first}", "worker_ids_json", deep)
            admin.hset(f"django_tasks:default:result:{second}", "finished_at", "0001-01-01T00:00:00+14:00")
            admin.hset(f"django_tasks:default:result:{failed}", "errors_json", "[" * 60_000)
            for task in (third, failed_too):
                admin.delete(f"django_tasks:default:result:{task}")
                admin.set(f"django_tasks:default:result:{task}", "of another type")
        await follower.poll()
        await follower.poll()
    assert {k: n for k, n in ledger.totals.items() if k[0] in ("finished", "retried", "exception", "dropped")} == {
        ("finished", "default", ADD, "succeeded"): 5,
        ("finished", "default", BOOM, "failed"): 1,
        ("dropped", "missed"): 2,
    }


async def test_a_project_without_time_zones(make_project: Any, redis_url: str, source: Source, recorder: Any) -> None:
    project = make_project(redis_url, USE_TZ="0", TIME_ZONE="Asia/Kathmandu")
    ledger = recorder()
    async with Following(source, ledger) as follower:
        project.enqueue("sleep", 1, args=[0.2])
        project.enqueue("boom", 1)
        project.process()
        await follower.poll()
    assert ledger.total("finished") == 2
    assert sorted(0.2 <= seconds < 2 for *_, seconds in ledger.runs) == [False, True]
    assert len(ledger.waits) == 2


async def test_goes_on_where_a_checkpoint_stands(
    project: Any, source: Source, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended while it counts, and started anew from what the ledger held then or before: nothing is lost or repeated."""
    monkeypatch.setattr("taskq_exporter_django_tasks_redis.follower.PAGE", 20)

    class Ending(recorder):  # type: ignore[misc]
        """Ends the poll at its n-th task: the next await is where it stops."""

        def finished(self, *args: Any, **kwargs: Any) -> None:
            super().finished(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                self.poll.cancel()

    ledger = recorder()
    async with Following(source, ledger):
        saved = json.dumps(ledger.cursor), ledger.totals
    project.enqueue("add", 400)
    project.enqueue("boom", 40)
    workers = [project.work() for _ in range(2)]
    ends, working, ended = 0, True, False
    while working or ended:
        working = any(worker.poll() is None for worker in workers)
        ledger = Ending(json.loads(saved[0]))
        ledger.totals, ledger.left = saved[1].copy(), ends % 7 + 1
        async with Following(source, ledger) as follower:
            ledger.poll = asyncio.create_task(follower.poll())
            await asyncio.wait([ledger.poll])
        ended = ledger.poll.cancelled()
        ends += ended
        if not ended or ends % 3:  # every third checkpoint is not written in time
            saved = json.dumps(ledger.cursor), ledger.totals
    assert ends >= 5
    assert ledger.total("finished", "default", ADD, "succeeded") == 400
    assert ledger.total("finished", "default", BOOM, "failed") == 40
    assert ledger.started_over == []


@pytest.mark.parametrize("cursor", [{}, "x", {"SUCCESSFUL": 1, "FAILED": 2}, {"SUCCESSFUL": {}, "FAILED": {}}])
async def test_a_cursor_that_fits_nothing_is_set_aside(source: Source, recorder: Any, cursor: Any) -> None:
    ledger = recorder(cursor)
    async with Following(source, ledger) as follower:
        await follower.poll()
    assert len(ledger.started_over) == 1
    assert ledger.cursor["SUCCESSFUL"]["position"] > 1e9


async def test_a_cursor_ahead_of_the_server_is_set_aside_and_one_too_old_has_a_gap(
    source: Source, recorder: Any
) -> None:
    def cursor(position: float, looked: float) -> dict[str, Any]:
        sets = {name: {"position": position, "seen": {}} for name in ("SUCCESSFUL", "FAILED")}
        return sets | {"looked": looked, "attempts": {}}

    for position, looked, gaps, starts in [
        (1e11, 1e9, 0, 1),
        (1e9, 1e11, 0, 1),
        (1e9, 1e9, 1, 0),
        (1e9, time.time(), 0, 0),
    ]:
        ledger = recorder(cursor(position, looked))
        async with Following(source, ledger):
            assert (ledger.gaps, len(ledger.started_over)) == (gaps, starts)


async def test_the_hook_follows_on_its_timer(project: Any, source_of: Any, redis_url: str, recorder: Any) -> None:
    ledger = recorder()
    source = source_of(redis_url, poll_interval=0.05)
    async with adapter.connect(source) as client:
        follow = asyncio.create_task(adapter.follow(client, ledger))
        async with asyncio.timeout(10):
            while ledger.lag is None:
                await asyncio.sleep(0.01)
            project.enqueue("add", 5)
            project.process()
            while ledger.total("finished") < 5:
                await asyncio.sleep(0.01)
        follow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follow
    assert ledger.declared == {"retried", "finished"}


@pytest.mark.timeout(600)
async def test_ten_thousand_tasks_and_four_workers(project: Any, source_of: Any, redis_url: str, recorder: Any) -> None:
    """To the unit, while it polls ten times a second, and equal to what the library and the streams say."""
    tasks = 10_000
    ledger = recorder()
    source = source_of(redis_url, poll_interval=0.1)
    async with adapter.connect(source) as client, adapter.connect(source) as other:
        follow = asyncio.create_task(adapter.follow(client, ledger))
        while ledger.cursor is None:
            await asyncio.sleep(0.01)
        project.enqueue("add", tasks * 8 // 10)
        project.enqueue("add", tasks // 10, queue_name="emails", priority=1)
        workers = [project.work() for _ in range(4)]
        project.enqueue("boom", tasks // 10)
        async with asyncio.timeout(550):
            while any(worker.poll() is None for worker in workers):
                snapshot = await adapter.collect(other)
                assert snapshot.problems == []
                await asyncio.sleep(0.2)
            while ledger.total("finished") < tasks:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)  # what would be counted twice
        follow.cancel()
        snapshot = await adapter.collect(other)
    assert ledger.total("finished", "default", ADD, "succeeded") == tasks * 8 // 10
    assert ledger.total("finished", "emails", ADD, "succeeded") == tasks // 10
    assert ledger.total("finished", "default", BOOM, "failed") == tasks // 10
    assert ledger.total("finished") == len(ledger.runs) == len(ledger.waits) == tasks
    assert sum(sum(queue.enqueued.values()) for queue in snapshot.queues) == tasks
    assert sum(n for queue in snapshot.queues for n in queue.tasks.values()) == tasks
