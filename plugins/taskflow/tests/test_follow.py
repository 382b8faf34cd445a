"""Finished tasks are counted once each; the truth is what was done."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import psycopg
import pytest
from taskflow_project import TaskFlow, clock

from taskq_exporter.api import Reason
from taskq_exporter.testing.watch import Watch, watch

FINISHED = "taskq_tasks_finished_total"


def options(postgres_dsn: str, redis_url: str, **more: Any) -> dict[str, Any]:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", **parts})
    return {"adapter": "taskflow", "url": url, "redis_url": redis_url, "poll_interval": "50ms", **more}


async def finished(watched: Watch, total: int) -> dict[Any, float]:
    page = await watched.until(lambda p: p.total(FINISHED) >= total, f"{total} have finished")
    await asyncio.sleep(0.3)  # what is counted twice would come now
    page = await watched.page()
    return {key: n for key, n in page.by(FINISHED, "queue", "task", "outcome").items() if n}


async def test_each_outcome_and_how_long_it_ran(flow: TaskFlow, postgres_dsn: str, redis_url: str) -> None:
    flow.row("old", status="COMPLETED", started_at=clock(-5), completed_at=clock())  # before counting began
    async with watch(options(postgres_dsn, redis_url), follow=True) as watched:
        await watched.following()
        done = flow.row("mail", 9, status="RUNNING", started_at=clock(-5))
        flow.complete(done)
        flow.update(flow.row("mail", 5), status="TIMEOUT")
        flow.fail(flow.row("mail", 1))
        flow.cancel(flow.row("report", 1))
        assert await finished(watched, 4) == {
            ("high", "mail", "succeeded"): 1,
            ("medium", "mail", "timed_out"): 1,
            ("low", "mail", "failed"): 1,
            ("low", "report", "cancelled"): 1,
        }
        page = await watched.page()
        assert page.by("taskq_task_run_duration_seconds_count", "queue", "task") == {("high", "mail"): 1}
        assert page.total("taskq_task_run_duration_seconds_sum") == pytest.approx(5, abs=2)
        assert not page.values("taskq_task_wait_duration_seconds_count")


async def test_late_commits_and_concurrent_writers_are_counted_exactly(
    flow: TaskFlow, postgres_dsn: str, redis_url: str
) -> None:
    ids = [flow.row("mail", 1 + n % 10) for n in range(200)]

    def finish(part: list[str]) -> None:
        with psycopg.connect(postgres_dsn) as connection:
            for n, task_id in enumerate(part):
                word = "FAILED" if n % 4 == 0 else "COMPLETED"
                connection.execute("SAVEPOINT s")
                connection.execute(
                    "UPDATE tasks SET status = %s, updated_at = %s WHERE task_id = %s", [word, clock(-n % 3), task_id]
                )
                connection.execute("RELEASE s")
                time.sleep(0.005)
                if n % 10 == 9:
                    connection.commit()

    async with watch(options(postgres_dsn, redis_url), follow=True) as watched:
        await watched.following()
        writers = [threading.Thread(target=finish, args=(ids[n::4],)) for n in range(4)]
        for writer in writers:
            writer.start()
        await asyncio.gather(*(asyncio.to_thread(writer.join) for writer in writers))
        outcomes = await finished(watched, 200)
    counted: dict[str, float] = {}
    for (_, _, outcome), n in outcomes.items():
        counted[outcome] = counted.get(outcome, 0) + n
    assert counted == {"failed": 52, "succeeded": 148}


async def test_old_tasks_need_the_index(flow: TaskFlow, postgres_dsn: str, redis_url: str) -> None:
    """Created long ago, ended now: found where an index on updated_at serves, and else not, as the page `/` says."""
    old = [flow.row("mail", 9, created_at=clock(-7 * 86400)) for _ in range(2)]
    async with watch(options(postgres_dsn, redis_url), follow=True) as watched:
        await watched.following()
        flow.complete(old[0])
        flow.complete(flow.row("mail", 1))
        assert await finished(watched, 1) == {("low", "mail", "succeeded"): 1}
        assert any("updated_at" in finding.advice for finding in watched.runner.findings())
    flow.db.execute("CREATE INDEX ON tasks (updated_at)")
    async with watch(options(postgres_dsn, redis_url), follow=True) as watched:
        await watched.following()
        flow.complete(old[1])
        assert await finished(watched, 1) == {("high", "mail", "succeeded"): 1}
        assert not watched.runner.findings()


async def test_counting_goes_on_after_a_restart(
    flow: TaskFlow, postgres_dsn: str, redis_url: str, tmp_path: Any
) -> None:
    source = options(postgres_dsn, redis_url)
    async with watch(source, follow=True) as watched:
        await watched.following()
        flow.complete(flow.row("mail", 9))
        await finished(watched, 1)
        cursor = json.loads(json.dumps(watched.runner.ledger.cursor))
    flow.complete(flow.row("mail", 9))  # while nobody looks
    async with watch(source) as watched:
        watched.runner.ledger.cursor = cursor
        watched.runner.follower.start()
        assert await finished(watched, 1) == {("high", "mail", "succeeded"): 1}


async def test_the_follower_needs_no_redis_and_comes_back(flow: TaskFlow, postgres_dsn: str) -> None:
    async with watch(options(postgres_dsn, "redis://127.0.0.1:1/0"), follow=True) as watched:
        await watched.following()
        flow.complete(flow.row("mail", 9))
        assert await finished(watched, 1) == {("high", "mail", "succeeded"): 1}
        flow.db.execute("ALTER TABLE tasks RENAME TO tasks_away")
        await watched.until(lambda p: not p.value("taskq_source_follower_up"), "the follower is down")
        assert watched.runner.failures.counts[Reason.SCHEMA]
        flow.db.execute("ALTER TABLE tasks_away RENAME TO tasks")
        await watched.until(lambda p: p.value("taskq_source_follower_up"), "the follower is up again")
        flow.complete(flow.row("mail", 9))
        assert await finished(watched, 2) == {("high", "mail", "succeeded"): 2}
