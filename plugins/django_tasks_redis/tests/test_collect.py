"""Exact numbers after known work, beside what the library itself says."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from taskq_exporter_django_tasks_redis import adapter
from taskq_exporter_django_tasks_redis.discovery import QueueFinder
from taskq_exporter_django_tasks_redis.follower import Follower

from taskq_exporter.api import QueueStats, Reason, Snapshot, Source, State, WorkerState

pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")]


async def collected(source: Source) -> Snapshot:
    async with adapter.connect(source) as client:
        return await adapter.collect(client)


def by_name(snapshot: Snapshot) -> dict[str, QueueStats]:
    assert snapshot.problems == []
    return {queue.name: queue for queue in snapshot.queues}


def user(source: Source, *without: str) -> list[str]:
    """The command that creates the user of `grants`, without some of its commands."""
    line = adapter.grants(source).replace("PASSWORD", "pw")
    for command in without:
        assert f" +{command} " in line
        line = line.replace(f" +{command} ", " ")
    return shlex.split(line, comments=True)


def contents(admin: redis.Redis) -> dict[bytes, Any]:
    return {key: (admin.dump(key), admin.expiretime(key)) for key in admin.scan_iter()}


async def eventually(source: Source, holds: Callable[[Snapshot], Any], seconds: float = 20) -> Snapshot:
    async with asyncio.timeout(seconds), adapter.connect(source) as client:
        while not holds(snapshot := await adapter.collect(client)):
            await asyncio.sleep(0.05)
        return snapshot


async def test_nothing_stored_yet(source: Source, source_of: Any, redis_url: str) -> None:
    assert by_name(await collected(source)) == {}
    queue = by_name(await collected(source_of(redis_url, expected=("emails",))))["emails"]
    assert queue.tasks == dict.fromkeys((State.READY, State.SCHEDULED, State.RUNNING, State.SUCCEEDED, State.FAILED), 0)
    assert queue.enqueued == {"high": 0, "normal": 0, "low": 0}
    assert (queue.consumers, queue.overdue) == (0, 0)


async def test_tasks_by_state_and_priority(project: Any, source: Source) -> None:
    project.enqueue("add", 5)
    project.enqueue("boom", 2)
    project.enqueue("add", 3, queue_name="emails", priority=10)
    project.enqueue("add", 1, queue_name="emails", priority=-10)
    project.enqueue("add", 4, queue_name="emails", delay=3600)
    project.enqueue("add", 1, queue_name="a:b")
    before = by_name(await collected(source))
    assert set(before) == {"default", "emails", "a:b"}
    assert before["default"].tasks[State.READY] == 7
    assert before["emails"].tasks == {
        State.READY: 4, State.SCHEDULED: 4, State.RUNNING: 0, State.SUCCEEDED: 0, State.FAILED: 0
    }  # fmt: skip
    assert before["emails"].by_priority == {
        (State.READY, "high"): 3, (State.READY, "normal"): 0, (State.READY, "low"): 1,
        (State.RUNNING, "high"): 0, (State.RUNNING, "normal"): 0, (State.RUNNING, "low"): 0,
    }  # fmt: skip
    assert before["emails"].enqueued == {"high": 3, "normal": 0, "low": 1}  # a delayed task when it becomes due

    assert project.process() == 12
    after = by_name(await collected(source))
    assert after["default"].tasks == {
        State.READY: 0, State.SCHEDULED: 0, State.RUNNING: 0, State.SUCCEEDED: 5, State.FAILED: 2
    }  # fmt: skip
    assert after["default"].oldest_age == {State.READY: 0, State.RUNNING: 0}
    assert after["default"].enqueued == {"high": 0, "normal": 7, "low": 0}
    for queue in after.values():
        library = project.stats(queue.name)
        assert queue.tasks[State.READY] + queue.tasks[State.SCHEDULED] == library["pending_count"]
        assert queue.tasks[State.SCHEDULED] == library["delayed_count"]
        assert queue.tasks[State.RUNNING] == library["running_count"]
        assert queue.tasks[State.SUCCEEDED] == library["successful_count"]
        assert queue.tasks[State.FAILED] == library["failed_count"]


async def test_overdue_tasks_are_ready_and_age_from_when_they_are_due(
    project: Any, source: Source, redis_url: str
) -> None:
    project.enqueue("add", 2, delay=0.2)
    project.enqueue("add", 1, delay=3600)
    time.sleep(0.4)
    queue = by_name(await collected(source))["default"]
    assert (queue.tasks[State.READY], queue.tasks[State.SCHEDULED], queue.overdue) == (2, 1, 2)
    assert 0.1 < queue.oldest_age[State.READY] < 5
    assert sum(queue.enqueued.values()) == 0
    assert project.process() == 2
    queue = by_name(await collected(source))["default"]
    assert (queue.tasks[State.READY], queue.overdue, queue.enqueued["normal"]) == (0, 0, 2)


async def test_running_tasks_and_the_workers_that_run_them(project: Any, source: Source, until: Any) -> None:
    project.enqueue("sleep", 2, args=[60], priority=5)
    project.enqueue("add", 1)
    workers = [project.work("--continuous") for _ in range(2)]
    until(lambda: project.stats()["running_count"] == 2)
    idle = project.work("--continuous", "--queue", "emails")
    time.sleep(1)
    snapshot = await collected(source)
    queues = by_name(snapshot)
    default = queues["default"]
    assert default.tasks[State.RUNNING] == 2
    assert default.by_priority[State.RUNNING, "high"] == 2
    assert default.tasks[State.READY] == default.by_priority[State.READY, "normal"] == 1
    assert 0.9 < default.oldest_age[State.RUNNING] < 30
    (run,) = snapshot.longest_runs
    assert (run.queue, run.task) == ("default", "django_project.sleep")
    assert run.seconds == default.oldest_age[State.RUNNING]
    snapshot = await eventually(source, lambda s: s.worker_states[WorkerState.IDLE] == 1)
    queues = by_name(snapshot)
    assert snapshot.worker_states == {WorkerState.BUSY: 2, WorkerState.IDLE: 1}
    # The busy ones read "emails" too, though no task of it holds them.
    assert (queues["default"].consumers, queues["emails"].consumers, queues["a:b"].slots) == (2, 3, 2)
    for worker in (*workers, idle):
        worker.kill()
        worker.wait()


async def test_a_worker_that_was_killed_counts_no_more(
    project: Any, source_of: Any, redis_url: str, until: Any
) -> None:
    worker = project.work("--continuous")
    source = source_of(redis_url, alive_within=2, discovery_interval=0.2)
    await eventually(source, lambda s: s.worker_states[WorkerState.IDLE] == 1)
    worker.kill()
    worker.wait()
    snapshot = await eventually(source, lambda s: s.worker_states[WorkerState.IDLE] == 0)
    assert by_name(snapshot)["default"].consumers == 0
    with redis.Redis.from_url(redis_url) as admin:  # and yet it is still listed
        assert len(admin.xinfo_consumers("django_tasks:default:default:stream:normal", "django_tasks_workers")) == 1


async def test_held_but_not_started_is_not_waiting(project: Any, source: Source) -> None:
    project.enqueue("add", 3)
    assert project.fetch()
    queue = by_name(await collected(source))["default"]
    assert queue.by_priority[State.READY, "normal"] == 2
    assert queue.by_priority[State.RUNNING, "normal"] == 1


async def test_expired_tasks_are_not_counted(make_project: Any, source_of: Any, redis_url: str) -> None:
    project = make_project(redis_url, options={"REDIS_RESULT_TTL": 2, "REDIS_COMPLETED_TASK_TTL": 1})
    project.enqueue("add", 3)
    project.process()
    project.enqueue("boom", 2)
    project.process(max_tasks=1)
    source = source_of(redis_url, result_ttl="2s", completed_ttl=1)
    tasks = by_name(await collected(source))["default"].tasks
    assert (tasks[State.READY], tasks[State.SUCCEEDED], tasks[State.FAILED]) == (1, 3, 1)
    time.sleep(2.1)
    with redis.Redis.from_url(redis_url) as admin:
        assert admin.zcard("django_tasks:default:default:status_index:SUCCESSFUL") == 3
    tasks = by_name(await collected(source))["default"].tasks
    assert set(tasks.values()) == {0}
    # A project without expiry: the index is right as it is.
    tasks = by_name(await collected(source_of(redis_url, result_ttl=0)))["default"].tasks
    assert tasks[State.SUCCEEDED] == 3


async def test_a_new_queue_shows_within_seconds(project: Any, source_of: Any, redis_url: str) -> None:
    project.enqueue("add", 1)
    async with adapter.connect(source_of(redis_url, poll_interval=0.1)) as client:
        assert set(by_name(await adapter.collect(client))) == {"default"}
        project.enqueue("add", 1, queue_name="emails")
        project.enqueue("add", 1, queue_name="a:b", delay=3600)
        async with asyncio.timeout(5):
            while set(by_name(await adapter.collect(client))) != {"default", "emails", "a:b"}:
                await asyncio.sleep(0.02)


async def test_filters_queues(project: Any, source_of: Any, redis_url: str) -> None:
    project.enqueue("add", 1)
    project.enqueue("add", 1, queue_name="a:b")
    source = source_of(redis_url, exclude=("a:*",), expected=("later",))
    assert set(by_name(await collected(source))) == {"default", "later"}


async def test_more_queues_than_are_asked_about(
    project: Any, source_of: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.enqueue("add", 1)
    project.enqueue("add", 2, queue_name="emails")
    monkeypatch.setattr("taskq_exporter_django_tasks_redis.collect.QUEUES", 2)
    assert (await collected(source_of(redis_url))).queues_complete
    snapshot = await collected(source_of(redis_url, expected=("z",)))
    assert [queue.name for queue in snapshot.queues] == ["z", "default"]
    assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.COST, "queues")]
    assert not snapshot.queues_complete


async def test_queues_that_were_not_looked_for_are_not_said_to_be_gone(
    make_project: Any, source_of: Any, redis_own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(redis_own.url).enqueue("add", 1)
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.execute_command(*user(source_of(""), "scan"))
    url = redis_own.url.replace("redis://", "redis://taskq_exporter:pw@")
    snapshot = await collected(source_of(url, expected=("z",)))
    assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.PERMISSION, "discovery")]
    assert not snapshot.queues_complete

    never = asyncio.Event()
    in_all_keys = QueueFinder.in_all_keys

    async def slow(finder: QueueFinder) -> set[str]:
        await never.wait()
        return await in_all_keys(finder)

    monkeypatch.setattr(QueueFinder, "in_all_keys", slow)
    async with adapter.connect(source_of(redis_own.url, timeout=0.2)) as client:
        snapshot = await adapter.collect(client)
        assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.TIMEOUT, "discovery")]
        assert not snapshot.queues_complete
        never.set()
        async with asyncio.timeout(5):
            while not (await adapter.collect(client)).queues_complete:
                await asyncio.sleep(0.02)


async def test_a_queue_found_with_a_new_task_is_kept_until_a_walk_could_find_it(
    project: Any, source_of: Any, redis_url: str
) -> None:
    async with adapter.connect(source_of(redis_url)) as client:
        finder = QueueFinder(client.redis, client.keys, since=60)
        project.enqueue("add", 1)
        assert await finder.in_newest_tasks() == {"default"}
        assert await finder.in_newest_tasks() == {"default"}
        assert await finder.in_all_keys() == {"default"}
        assert await finder.in_newest_tasks() == set()


async def test_many_consumers_left_behind_are_not_read(project: Any, source: Source, redis_url: str) -> None:
    project.enqueue("add", 3)
    project.process(max_tasks=1)
    stream, group = "django_tasks:default:default:stream:normal", "django_tasks_workers"
    with redis.Redis.from_url(redis_url) as admin:

        def asked() -> int:
            return int(admin.info("commandstats").get("cmdstat_xinfo|consumers", {"calls": 0})["calls"])

        assert (await collected(source)).worker_states[WorkerState.IDLE] == 1
        for i in range(1000):
            admin.xgroup_createconsumer(stream, group, f"gone-{i}")
        streams = asked()
        snapshot = await collected(source)
        queue = {queue.name: queue for queue in snapshot.queues}["default"]
        assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.COST, "consumers")]
        assert (queue.consumers, queue.slots, snapshot.worker_states) == (None, None, {})
        assert queue.tasks[State.READY] == queue.by_priority[State.READY, "normal"] == 2
        read = asked() - streams
        assert admin.xinfo_groups(stream)[0]["consumers"] > 1000
        admin.xgroup_delconsumer(stream, group, "gone-0")
        streams = asked()
        assert by_name(await collected(source))["default"].consumers is not None
        assert asked() - streams == read + 1


async def test_one_backend_of_several(make_project: Any, source_of: Any, redis_url: str) -> None:
    make_project(redis_url).enqueue("add", 1)
    other = make_project(redis_url, options={"REDIS_KEY_PREFIX": "sh[o]p*", "REDIS_CONSUMER_GROUP": "crew"})
    other.enqueue("add", 2)
    other.fetch()
    queue = by_name(await collected(source_of(redis_url, prefix="sh[o]p*", group="crew")))["default"]
    assert queue.tasks[State.READY] == 2
    assert queue.by_priority[State.READY, "normal"] == 1


async def test_sends_few_commands_however_many_tasks(project: Any, source_of: Any, redis_url: str) -> None:
    project.enqueue("add", 1)
    async with adapter.connect(source_of(redis_url, poll_interval=60)) as client:  # nothing in the background
        await adapter.collect(client)
        assert (await adapter.collect(client)).commands < 30
        project.enqueue("add", 300)
        project.enqueue("add", 300, delay=3600)
        assert (await adapter.collect(client)).commands < 30


async def test_a_part_that_may_not_be_read_is_absent(
    project: Any, source_of: Any, redis_own: Any, make_project: Any
) -> None:
    project = make_project(redis_own.url)
    project.enqueue("add", 3)
    project.fetch(queue="default")
    source = source_of(redis_own.url)
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.execute_command(*user(source, "xinfo|consumers", "zcount"))
    url = redis_own.url.replace("redis://", "redis://taskq_exporter:pw@")
    snapshot = await collected(source_of(url))
    assert {p.reason for p in snapshot.problems} == {Reason.PERMISSION}
    (queue,) = snapshot.queues
    assert (queue.consumers, queue.tasks, queue.overdue) == (None, {}, None)
    assert snapshot.worker_states == {}
    assert queue.by_priority[State.READY, "normal"] == 2
    refused = {(c.family, c.state) for c in snapshot.capabilities if c.reason == "permission"}
    assert ("taskq_tasks", "ready") in refused
    assert ("taskq_workers", "") in refused
    assert ("taskq_tasks_by_priority", "ready") not in refused


async def test_as_a_user_with_exactly_the_grants_and_leaving_every_key_as_it_was(
    make_project: Any, source_of: Callable[..., Source], redis_own: Any, recorder: Any
) -> None:
    project = make_project(redis_own.url)
    project.enqueue("add", 3)
    project.enqueue("boom", 2)
    project.process(max_tasks=3)
    project.enqueue("add", 2, delay=3600)
    project.enqueue("sleep", 1, args=[0], queue_name="emails")
    project.fetch()
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.execute_command(*user(source_of("")))
        admin.set("other", "not for us")
        before = contents(admin)
        url = redis_own.url.replace("redis://", "redis://taskq_exporter:pw@")
        source = source_of(url, poll_interval=0.01)
        follower = recorder({"FAILED": dict(EVERYTHING), "SUCCESSFUL": dict(EVERYTHING), "looked": 1.0, "attempts": {}})
        async with adapter.connect(source) as client:
            follow = Follower(client.redis, client.keys, client.options, follower)
            await follow.start()
            for _ in range(100):
                snapshot = await adapter.collect(client)
                await follow.poll()
            assert "problem" not in {finding.level for finding in await adapter.diagnose(client)}
        assert contents(admin) == before
        assert admin.acl_log() == []
        for forbidden in (["GET", "other"], ["HSET", "django_tasks:default:x", "a", "b"], ["CONFIG", "GET", "*"]):
            with redis.Redis.from_url(url) as reader, pytest.raises(redis.exceptions.NoPermissionError):
                reader.execute_command(*forbidden)
    assert snapshot.problems == []
    assert all(c.able or c.reason == "backend" for c in snapshot.capabilities)
    assert follower.total("finished") == 3


EVERYTHING = {"position": 1.0, "seen": {}}
