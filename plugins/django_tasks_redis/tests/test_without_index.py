"""Before 0.4 there is no index: what the streams tell is told, and the rest is absent and declared."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from taskq_exporter_django_tasks_redis import adapter
from taskq_exporter_django_tasks_redis.follower import Follower

from taskq_exporter.api import QueueStats, Snapshot, Source, State, WorkerState

pytestmark = [pytest.mark.py312, pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12")]

#: What only the index tells.
BY_INDEX = {
    ("taskq_tasks", "succeeded"),
    ("taskq_tasks", "failed"),
    ("taskq_task_longest_run_seconds", ""),
}
BY_CURSOR = {
    ("taskq_tasks_finished_total", ""),
    ("taskq_tasks_retried_total", ""),
    ("taskq_task_exceptions_total", ""),
    ("taskq_task_run_duration_seconds", ""),
    ("taskq_task_wait_duration_seconds", ""),
}


async def collected(source: Source) -> tuple[Snapshot, dict[str, QueueStats]]:
    async with adapter.connect(source) as client:
        snapshot = await adapter.collect(client)
    assert snapshot.problems == []
    return snapshot, {queue.name: queue for queue in snapshot.queues}


def of_version(snapshot: Snapshot) -> set[tuple[str, str]]:
    return {(c.family, c.state) for c in snapshot.capabilities if c.reason == "version"}


def forget_index(url: str) -> None:
    """Leave what 0.3 would have written."""
    with redis.Redis.from_url(url) as admin:
        for key in admin.scan_iter("*status_index*"):
            admin.delete(key)


async def work(project: Any, until: Any) -> Any:
    project.enqueue("add", 5)
    project.enqueue("boom", 2)
    project.process()
    project.enqueue("sleep", 1, args=[60], priority=1)
    project.enqueue("add", 4)
    project.enqueue("add", 3, delay=0.2)
    project.enqueue("add", 2, delay=3600)
    worker = project.work("--queue", "default", "--continuous")
    until(lambda: project.stats("default")["running_count"] == 1)
    # Promotion waits for the worker, which sleeps: these stay overdue.
    project.enqueue("add", 6, delay=0.2)
    await asyncio.sleep(0.6)
    return worker


def check(snapshot: Snapshot, queue: QueueStats) -> None:
    assert queue.tasks[State.RUNNING] == queue.by_priority[State.RUNNING, "high"] == 1
    assert queue.tasks[State.SCHEDULED] == 2
    assert queue.tasks[State.READY] == 4 + 3 + 6
    assert queue.overdue is not None
    assert queue.overdue >= 6
    assert queue.by_priority[State.READY, "normal"] + queue.overdue == 4 + 3 + 6
    assert 0.4 < queue.oldest_age[State.READY] < 20
    assert 0.4 < queue.oldest_age[State.RUNNING] < 20
    assert queue.consumers is not None
    assert snapshot.worker_states[WorkerState.BUSY] == 1


async def test_streams_tell_what_is_waiting_and_running(
    project: Any, source: Source, redis_url: str, until: Any, recorder: Any
) -> None:
    await work(project, until)
    snapshot, queues = await collected(source)
    check(snapshot, queues["default"])
    assert of_version(snapshot) == set()
    forget_index(redis_url)
    snapshot, queues = await collected(source)
    check(snapshot, queues["default"])
    assert set(queues["default"].tasks) == {State.READY, State.SCHEDULED, State.RUNNING}
    assert snapshot.longest_runs == []
    assert of_version(snapshot) == BY_INDEX | BY_CURSOR
    ledger = recorder()
    async with adapter.connect(source) as client:
        follower = Follower(client.redis, client.keys, client.options, ledger)
        await follower.start()
        await follower.poll()
        findings = await adapter.diagnose(client)
    assert ledger.total("finished") == 0
    assert [f.advice for f in findings if "index" in f.text and "0.4" in f.advice]


async def test_an_empty_queue_has_no_ages(project: Any, source: Source, redis_url: str) -> None:
    project.enqueue("add", 2)
    project.process()
    forget_index(redis_url)
    _, queues = await collected(source)
    assert queues["default"].oldest_age == {State.READY: 0, State.RUNNING: 0}
    assert queues["default"].tasks[State.READY] == 0
    project.enqueue("add", 1, queue_name="emails")  # never read by a worker: its group has delivered nothing
    await asyncio.sleep(0.2)
    _, queues = await collected(source)
    assert 0.1 < queues["emails"].oldest_age[State.READY] < 5


async def test_an_index_that_covers_a_part_only(project: Any, source: Source, redis_url: str, recorder: Any) -> None:
    """0.4 took over from 0.3: what finishes now is counted, what is stored is not taken from half an index."""
    project.enqueue("add", 5)
    project.enqueue("boom", 3)
    project.process(max_tasks=2)
    forget_index(redis_url)
    ledger = recorder()
    async with adapter.connect(source) as client:
        follower = Follower(client.redis, client.keys, client.options, ledger)
        await follower.start()
        project.process(max_tasks=1)
        snapshot, queues = await collected(source)
        assert queues["default"].tasks == {State.READY: 5, State.SCHEDULED: 0, State.RUNNING: 0}
        assert of_version(snapshot) == BY_INDEX
        (advice,) = [f.advice for f in await adapter.diagnose(client) if "index" in f.text]
        assert "rebuild_redis_status_index --backend default" in advice.replace("`", "")
        project.process()
        await follower.poll()
        assert ledger.total("finished") == 6

        project.rebuild()
        snapshot, queues = await collected(source)
        assert queues["default"].tasks == {
            State.READY: 0, State.SCHEDULED: 0, State.RUNNING: 0, State.SUCCEEDED: 5, State.FAILED: 3
        }  # fmt: skip
        assert of_version(snapshot) == set()
        await follower.poll()  # a rebuild writes down when the tasks ended, which is before counting began
        assert ledger.total("finished") in {6, 8}


@pytest.mark.full
@pytest.mark.parametrize("version", ["0.3.0", "0.2.1"])
async def test_the_old_library_itself(
    make_project: Any, source: Source, redis_url: str, until: Any, tmp_path: Path, version: str
) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    if subprocess.run([*pip, f"django-tasks-redis=={version}"], check=False).returncode:
        pytest.skip("no package index is reachable")
    project = make_project(redis_url, library=tmp_path)
    await work(project, until)
    snapshot, queues = await collected(source)
    check(snapshot, queues["default"])
    assert of_version(snapshot) == BY_INDEX | BY_CURSOR
