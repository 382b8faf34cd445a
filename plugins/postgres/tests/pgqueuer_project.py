"""PgQueuer with its own schema, jobs and workers, in an environment of its own: python pgqueuer_project.py STEP URL."""

# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer, RetryRequested
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job, Schedule
from pgqueuer.queries import Queries

#: Jobs that a worker of these entrypoints runs, or could.
LEFT = """
SELECT count(*) FROM pgqueuer
WHERE status IN ('queued', 'picked') AND execute_after <= now() AND entrypoint = ANY ($1::text[])
"""
HOUR = timedelta(hours=1)
SECRET = b"secret of a user"


async def run(queuer: PgQueuer, url: str) -> None:
    """A worker, until nothing is left for it; with jobs for later the library's drain mode waits for these too."""

    async def stop() -> None:
        connection = await asyncpg.connect(url)
        while await connection.fetchval(LEFT, list(queuer.qm.entrypoint_registry)):
            await asyncio.sleep(0.05)
        await connection.close()
        queuer.qm.shutdown.set()

    stopping = asyncio.create_task(stop())
    # an eighth of the timeout is what it waits for at its end
    await queuer.qm.run(heartbeat_timeout=timedelta(seconds=2), log_aggregation_interval=timedelta(0))
    await stopping


async def fill(queuer: PgQueuer, queries: Queries, url: str) -> None:
    """Make the tables, and jobs: one that was tried, one that failed for good, one that is held."""
    await queries.install()
    await queries.enqueue(["mail"] * 4, [SECRET] * 4, [0, 0, 0, 5])
    await queries.enqueue("mail", SECRET, execute_after=HOUR)
    await queries.enqueue(["boom", "flaky", "later", "hang"], [SECRET] * 4, [0] * 4)
    await queries.enqueue("held", SECRET)
    await queries.enqueue("unwanted", SECRET)

    @queuer.entrypoint("later")
    async def later(_: Job) -> None:
        raise RetryRequested(delay=HOUR)

    @queuer.entrypoint("held", on_failure="hold")
    async def held(_: Job) -> None:
        raise ValueError("secret of a traceback")

    @queuer.schedule("nightly", "0 3 * * *")
    async def nightly(_: Schedule) -> None:
        pass

    await queries.insert_schedule({key: one.next_in() for key, one in queuer.sm.registry.items()})
    await run(queuer, url)


async def take(queuer: PgQueuer, *_: object) -> None:
    """Take a job and end at once, as a worker that is killed."""

    @queuer.entrypoint("hang")
    async def hang(_: Job) -> None:
        os._exit(0)

    await queuer.qm.run()


async def work(queuer: PgQueuer, queries: Queries, url: str) -> None:
    """A worker, until nothing is ready that it knows."""

    @queuer.entrypoint("mail")
    async def mail(_: Job) -> None:
        pass

    @queuer.entrypoint("boom")
    async def boom(_: Job) -> None:
        raise ValueError("secret of a traceback")

    @queuer.entrypoint("flaky")
    async def flaky(job: Job) -> None:
        if job.attempts == 0:
            raise RetryRequested(delay=timedelta(0))

    await run(queuer, url)


async def fold(_: PgQueuer, queries: Queries, *__: object) -> None:
    """Fold the log into statistics, as a worker does every 30 s."""
    await queries.aggregate_logs()


async def cancel(_: PgQueuer, queries: Queries, *__: object) -> None:
    """Cancel the job that nobody wants."""
    await queries.mark_job_as_cancelled(
        [job.id for job in await queries.browse_queue() if job.entrypoint == "unwanted"]
    )


async def main(step: str, url: str) -> None:
    connection = await asyncpg.connect(url)
    async with AsyncpgDriver(connection) as driver:
        await globals()[step](PgQueuer(driver), Queries(driver), url)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
