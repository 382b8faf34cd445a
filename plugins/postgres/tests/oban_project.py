"""Oban for Python, in processes of its own: `python oban_project.py FUNCTION URL`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from oban import Cancel, Oban, job
from oban.schema import install_sql
from psycopg_pool import AsyncConnectionPool

logging.disable()


@job(queue="emails")
async def mail() -> None:
    await asyncio.sleep(0.01)


@job(queue="images", max_attempts=1)
async def boom() -> None:
    raise ValueError("secret of a traceback")


@job(queue="images")
async def stop() -> Cancel:
    return Cancel("no longer wanted")


@job(queue="reports")
async def later() -> None:
    raise ValueError("again in some seconds")


@job(queue="slow")
async def nap() -> None:
    await asyncio.sleep(3600)


async def until(pool: AsyncConnectionPool, condition: str) -> None:
    while True:
        async with pool.connection() as connection:
            row = await (await connection.execute(f"SELECT {condition} FROM oban_jobs")).fetchone()
        if row[0]:
            return
        await asyncio.sleep(0.05)


async def fill(pool: AsyncConnectionPool) -> None:
    """Make the tables, and jobs; one of them has failed and waits."""
    async with pool.connection() as connection:
        await connection.execute(install_sql())
    async with Oban(pool=pool, queues={"reports": 1}, node="first") as oban:
        await oban.enqueue(later.new())
        await until(pool, "bool_and(state = 'retryable')")
        for _ in range(30):
            await oban.enqueue(mail.new())
        await oban.enqueue(mail.new().update({"priority": 3}))
        await oban.enqueue(mail.new().update({"scheduled_in": 3600}))
        await oban.enqueue(mail.new().update({"queue": "due", "scheduled_in": -60}))
        for _ in range(2):
            await oban.enqueue(boom.new())
        await oban.enqueue(stop.new())


async def hold(pool: AsyncConnectionPool) -> None:
    """A node that runs a job when its machine is gone."""
    async with Oban(pool=pool, queues={"slow": 3, "quiet": {"limit": 1, "paused": True}}, node="gone") as oban:
        await oban.enqueue(nap.new())
        await until(pool, "bool_or(state = 'executing')")
        os._exit(0)


async def work(pool: AsyncConnectionPool) -> None:
    """One of several nodes that run what is ready."""
    queues = {"emails": 5, "images": 2}
    async with Oban(pool=pool, queues=queues, stager={"interval": 0.1}):
        await until(pool, "bool_and(state NOT IN ('available', 'executing') OR queue NOT IN ('emails', 'images'))")


async def main() -> None:
    name, url = sys.argv[1:]
    async with AsyncConnectionPool(url, min_size=2) as pool:
        await {"fill": fill, "hold": hold, "work": work}[name](pool)


if __name__ == "__main__":
    asyncio.run(main())
