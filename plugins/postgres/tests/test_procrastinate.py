"""Preset procrastinate, with the library's own schema, jobs and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import procrastinate
import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_postgres

APP = procrastinate.App(connector=procrastinate.PsycopgConnector(), import_paths=[])


@APP.task(name="mail")
def mail() -> None:
    pass


@APP.task(name="boom")
def boom() -> None:
    raise ValueError("secret of a traceback")


@APP.task(name="flaky", retry=procrastinate.RetryStrategy(max_attempts=3, wait=0), pass_context=True)
def flaky(context: procrastinate.JobContext) -> None:
    if context.job.attempts < 2:
        raise ValueError("not yet")


@APP.task(name="later", retry=procrastinate.RetryStrategy(max_attempts=3, wait=3600))
def later() -> None:
    raise ValueError("in an hour")


def run(dsn: str, use: Any) -> None:
    async def with_app() -> None:
        with APP.replace_connector(procrastinate.PsycopgConnector(conninfo=dsn)) as app:
            async with app.open_async():
                await use(app)

    asyncio.run(with_app())


async def make_schema(app: procrastinate.App) -> None:
    await app.schema_manager.apply_schema_async()


async def defer(app: procrastinate.App) -> None:
    for _ in range(3):
        await mail.configure(queue="emails").defer_async()
    await mail.configure(queue="emails", priority=5).defer_async()
    await mail.configure(queue="emails", schedule_in={"hours": 1}).defer_async()
    await boom.configure(queue="images").defer_async()
    await flaky.configure(queue="images").defer_async()
    await later.configure(queue="reports").defer_async()
    await app.run_worker_async(queues=["reports"], wait=False, install_signal_handlers=False)


async def work(app: procrastinate.App) -> None:
    one = app.run_worker_async(queues=["emails"], wait=False, install_signal_handlers=False, concurrency=2)
    await asyncio.gather(one, app.run_worker_async(queues=["images"], wait=False, install_signal_handlers=False))


#: What a worker that was killed leaves: a job that it took, and its row.
TAKE = """
INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now());
INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('taken', 'mail');
UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers)
WHERE queue_name = 'taken';
INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, periodic_id) VALUES
    ('nightly', 1700000000, ''), ('nightly', 1700003600, ''), ('nightly', 1700000000, 'eu');
"""


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        url = server.url
        for step in (make_schema, defer):
            run(url, step)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(TAKE)
            (worker,) = connection.execute("SELECT max(id) FROM procrastinate_workers").fetchone() or ("",)
        yield World(
            url=url,
            server=server,
            options={"preset": "procrastinate", "poll_interval": "100ms"},
            tasks={
                "emails": {"ready": 4, "scheduled": 1},
                "images": {"ready": 2},
                "reports": {"retry": 1},
                "taken": {"running": 1},
            },
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 3,
                'taskq_workers{state="busy"}': 1,
                f'taskq_worker_up{{worker="{worker}"}}': 1,
                'taskq_scheduler_entries{scheduler="periodic"}': 2,
                'taskq_schedule_last_run_timestamp_seconds{scheduler="periodic",entry="nightly"}': 1700003600,
            },
            work=lambda: run(url, work),
            finished={
                ("emails", "mail", "succeeded"): 4,
                ("images", "boom", "failed"): 1,
                ("images", "flaky", "succeeded"): 1,
            },
        )


class TestConformance(AdapterConformance):
    adapter = "postgres"

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
