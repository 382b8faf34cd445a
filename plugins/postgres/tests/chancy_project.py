"""Jobs and workers of chancy, in processes of their own that import this and call run()."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from chancy import Chancy, Queue, Worker, job
from chancy.plugins.cron import Cron
from chancy.plugins.retry import RetryPlugin
from psycopg.rows import dict_row

EXECUTOR = "chancy.executors.asyncex.AsyncExecutor"
READY = """
SELECT FROM chancy_jobs
WHERE queue IN ('emails', 'images') AND state IN ('pending', 'retrying') AND scheduled_at < now()
"""
LEFT = """
SELECT array_agg(state ORDER BY state) = ARRAY['retrying', 'running']::varchar[]
    AND EXISTS (SELECT FROM chancy_workers WHERE 'emails' = ANY (queues)) AS done FROM chancy_jobs
"""


@job(queue="emails")
async def mail() -> None:
    pass


@job(queue="images")
async def boom() -> None:
    raise ValueError("secret of a traceback")


@job(queue="slow")
async def nap() -> None:
    await asyncio.sleep(3600)


def app(url: str) -> Chancy:
    return Chancy(url, plugins=[Cron(), RetryPlugin()], log=logging.getLogger("quiet"))


async def rows(chancy: Chancy, query: str) -> list[dict[str, Any]]:
    async with chancy.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


async def schema(url: str) -> None:
    """The library's own migrations, with those of its plugins."""
    async with app(url) as chancy:
        await chancy.migrate()


async def old(url: str) -> None:
    """The library's tables before jobs had claims, and without plugins; a job that failed."""
    async with Chancy(url, no_default_plugins=True) as chancy:
        await chancy.migrate(to_version=7)
        await chancy.push(mail)
        await rows(chancy, "UPDATE chancy_jobs SET state = 'failed', completed_at = now() RETURNING id")


async def fill(url: str) -> None:
    """Queues and jobs, some of them as a worker leaves them that was stopped."""
    at = datetime.now(UTC)
    async with app(url) as chancy:
        for name in ("emails", "images", "slow", "later", "quiet"):
            await chancy.declare(Queue(name, concurrency=3, executor=EXECUTOR, polling_interval=1))
        await chancy.push(nap)
        settings = {"retry_settings": {"backoff": 3600, "backoff_limit": 7200}}
        await chancy.push(boom.job.with_queue("later").with_max_attempts(9).with_meta(settings))
        gone = Worker(chancy, worker_id="gone", heartbeat_poll_interval=1, register_signal_handlers=False)
        async with gone as worker:
            while not (await rows(chancy, LEFT))[0]["done"]:
                await asyncio.sleep(0.05)
                await worker.flush()
            await worker.stop(timeout=0)
        await chancy.pause_queue("quiet")
        for delta in (timedelta(0), timedelta(0), timedelta(minutes=-1), timedelta(hours=1)):
            await chancy.push(mail.job.with_scheduled_at(at + delta))
        await chancy.push(mail.job.with_priority(5))
        for _ in range(2):
            await chancy.push(boom)
        await chancy.retry_jobs([await chancy.push(boom)])
        await Cron.schedule(chancy, "0 * * * *", mail.job.with_unique_key("hourly"))


async def cancel(url: str) -> None:
    """A job that is cancelled while it waits."""
    async with app(url) as chancy:
        await chancy.cancel_job(await chancy.push(mail.job.with_queue("quiet")))


async def work(url: str) -> None:
    """A worker, until nothing is ready."""
    async with app(url) as chancy, Worker(chancy, register_signal_handlers=False):
        while await rows(chancy, READY):
            await asyncio.sleep(0.05)


def run(function: str, url: str) -> None:
    """Run one of the functions above."""
    asyncio.run({"schema": schema, "old": old, "fill": fill, "cancel": cancel, "work": work}[function](url))
