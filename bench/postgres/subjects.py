"""What is compared: one collect and one look of the adapter's follower, and what people write without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.follow import step
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_sql import SqlClient

from bench.postgres.tables import Options
from bench.process import cpu_seconds
from taskq_exporter.api import Snapshot, Source, State
from taskq_exporter.counts.names import Names
from taskq_exporter.ledger import SourceLedger

_COUNT = "SELECT queue, state, count(*) FROM {} GROUP BY queue, state"


@dataclass(frozen=True)
class Cost:
    """Seconds that something took, by the clock and of the server's processors."""

    wall: float
    server: float


class Exporter:
    """The adapter as the exporter calls it, on connections that are open: each of them has one of its own."""

    def __init__(self, url: str, table: str, options: Options) -> None:
        name = f"bench-{table}"
        dsn = make_conninfo(url, application_name=name)
        model = PostgresOptions.model_validate(options)
        self._source = Source(name=name, adapter="postgres", url=lambda: dsn, options=model)
        self._stack = AsyncExitStack()
        self._runner = asyncio.Runner()
        self._clients: list[SqlClient] = []
        self._ledger = SourceLedger(Names({}, {}, time.time), time.time)
        self.snapshot = Snapshot()

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        self.measure()  # looks at the catalogs and at each statement's plan, and fills the server's caches
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def count(self, state: State) -> int:
        """Jobs of a state, as it counted them last."""
        return sum(queue.tasks.get(state, 0) for queue in self.snapshot.queues)

    @property
    def finished(self) -> int:
        """Jobs that its follower has counted."""
        counters = self._ledger.freeze().counters.get("taskq_tasks_finished_total", [])
        return int(sum(value for _, value, _ in counters))

    def measure(self) -> tuple[Cost, Cost]:
        """One collect, as a page asks for it, and one look of the follower for what ended, which has its own timer."""
        return self._runner.run(self._measure())

    async def _open(self) -> None:
        for _ in ("collect", "follow"):
            self._clients.append(await self._stack.enter_async_context(connect(self._source)))

    async def _measure(self) -> tuple[Cost, Cost]:
        collecting, following = self._clients

        async def collected() -> None:
            self.snapshot = await collect(self._source, collecting)

        collect_cost = await _cost(collecting, collected())
        look_cost = await _cost(following, step(self._source, following, self._ledger))
        if self.snapshot.problems:
            raise RuntimeError(f"not all was read: {self.snapshot.problems}")
        return collect_cost, look_cost


async def _cost(client: SqlClient, work: Awaitable[object]) -> Cost:
    pid = await _pid(client)
    before, began = cpu_seconds(pid), time.perf_counter()
    await work
    return Cost(time.perf_counter() - began, cpu_seconds(pid) - before)


async def _pid(client: SqlClient) -> int:
    connection, _ = await client.open()
    return connection.info.backend_pid


class PlainCount:
    """`count(*) … GROUP BY queue, state`, in one process of the server or with its parallel workers."""

    def __init__(self, url: str, table: str, *, parallel: bool = False) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        if not parallel:
            self._connection.execute("SET max_parallel_workers_per_gather = 0")
        self._query = sql.SQL(_COUNT).format(sql.Identifier(table))
        self._rows: list[tuple[str, str, int]] = []

    def __enter__(self) -> Self:
        self.measure()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count(self, *states: str) -> int:
        """Jobs of these states, as it counted them last."""
        return sum(n for _, state, n in self._rows if state in states)

    def measure(self) -> Cost:
        """One count of all. Its parallel workers' processor time is not in it."""
        pid = self._connection.info.backend_pid
        before, began = cpu_seconds(pid), time.perf_counter()
        self._rows = self._connection.execute(self._query).fetchall()
        return Cost(time.perf_counter() - began, cpu_seconds(pid) - before)
