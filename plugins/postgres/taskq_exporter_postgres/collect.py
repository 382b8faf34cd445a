"""What is true now: live jobs by queue and state, their ages, and workers, in one read-only transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from taskq_exporter_sql import Relation, SqlClient, TableName, Transaction, describe, read_only

from taskq_exporter.api import (
    AdapterError,
    BrokerStats,
    Outcome,
    Problem,
    Reason,
    Snapshot,
    Source,
    State,
    WorkerState,
    WorkerStats,
)
from taskq_exporter_postgres.capabilities import capabilities
from taskq_exporter_postgres.options import LIVE, WAITING, PostgresOptions, Table
from taskq_exporter_postgres.statements import MAX_ROWS, active_jobs, index_advice, waiting_jobs, worker_rows
from taskq_exporter_postgres.table import BoundTable
from taskq_exporter_postgres.tally import Tally

__all__ = ["advised", "bind_jobs", "bind_workers", "collect"]

JOB_TIMES = ("scheduled_at", "started_at", "finished_at", "created_at")
#: What collect() reads; finished_at and id are the follower's.
LIVE_ROLES = ("state", "queue", "task", "priority", "scheduled_at", "started_at", "created_at", "worker", "attempts")
_COSTLY = ("waiting", "active", "workers")


def bind_jobs(
    options: PostgresOptions, found: dict[TableName, Relation], roles: tuple[str, ...], *, needs_xmin: bool = False
) -> BoundTable:
    """The jobs table with the columns of these roles. Raises AdapterError: schema, permission, unsupported."""
    table = options.table
    return BoundTable(
        table.table_name,
        found.get(table.table_name),
        {role: column for role, column in table.columns.given().items() if role in roles},
        times=JOB_TIMES,
        naive_timezone=table.naive_timezone,
        epoch_unit=table.epoch_unit,
        needs_xmin=needs_xmin,
    )


def bind_workers(options: PostgresOptions, found: dict[TableName, Relation]) -> BoundTable | None:
    """The worker table; None where none is configured. Raises AdapterError: schema, permission."""
    workers = options.workers
    if workers is None:
        return None
    return BoundTable(
        workers.table_name,
        found.get(workers.table_name),
        workers.columns.given(),
        times=("heartbeat", "started_at"),
        naive_timezone=workers.naive_timezone or options.table.naive_timezone,
        epoch_unit=workers.epoch_unit or options.table.epoch_unit,
    )


async def collect(source: Source, client: SqlClient) -> Snapshot:
    """Counts, ages and workers at one moment, by the server's clock. Ages in seconds, at least 0.

    Raises:
        AdapterError: As the toolkit's; schema, permission and unsupported where the tables do not fit the options;
            timeout with the index that is missing; cost where a column has far too many values.
    """
    options: PostgresOptions = source.options
    table = options.table
    tally = Tally(options)
    workers: dict[str, WorkerStats] = {}
    problems: list[Problem] = []
    visible = True
    names = [table.table_name, *([options.workers.table_name] if options.workers else [])]
    async with read_only(client, timeout=source.timeout) as transaction:
        found = await describe(transaction, names)
        bound = bind_jobs(options, found, LIVE_ROLES)
        try:
            bound.need_all_rows()
        except AdapterError as error:  # the server and the workers are known nevertheless
            visible = False
            problems.append(Problem(reason=error.reason, part="rows", message=str(error)))
        if visible and any(table.words(state) for state in WAITING):
            with advised(table, State.READY):
                for row in await _rows(transaction, "waiting", waiting_jobs(bound, table), "counting waiting jobs"):
                    tally.add_waiting(*row)
        if visible and any(table.words(state) for state in LIVE if state not in WAITING):
            with advised(table, State.RUNNING):
                for row in await _rows(transaction, "active", active_jobs(bound, table), "counting running jobs"):
                    tally.add_active(*row)
        try:
            workers = await _read_workers(transaction, source, found, busy=visible and bound.has("worker"))
        except AdapterError as error:  # the jobs are known nevertheless
            if error.reason is Reason.CONNECT:
                raise
            problems.append(Problem(reason=error.reason, part="workers", message=str(error)))
    return Snapshot(
        server="postgresql",
        server_version=client.server_version,
        queues=tally.queues() if visible else [],
        queues_complete=visible,
        longest_runs=tally.longest_runs(),
        workers=tally.workers(workers) if visible else list(workers.values()),
        broker=BrokerStats(roundtrip_seconds=transaction.roundtrip_seconds),
        capabilities=capabilities(options, visible=visible),
        problems=problems,
        commands=transaction.commands,
        query_seconds={name: seconds for name, seconds in transaction.seconds.items() if name in _COSTLY},
    )


async def _read_workers(
    transaction: Transaction, source: Source, found: dict[TableName, Relation], *, busy: bool
) -> dict[str, WorkerStats]:
    """Workers of the worker table; `busy`: whether running jobs tell their worker."""
    options: PostgresOptions = source.options
    table = bind_workers(options, found)
    if table is None or options.workers is None:
        return {}
    table.need_all_rows()
    query = worker_rows(table, stale_after=options.workers.stale_after, forget_after=source.worker_ttl)
    workers: dict[str, WorkerStats] = {}
    rows = await _rows(transaction, "workers", query, "reading workers")
    for name, heartbeat, up, started, slots in rows:
        state = (WorkerState.IDLE if up else WorkerState.OFFLINE) if busy else None
        workers.setdefault(  # the freshest row of a name comes first
            name, WorkerStats(name=name, up=up, state=state, slots=slots, last_heartbeat=heartbeat, started=started)
        )
    return workers


@contextmanager
def advised(table: Table, role: State | Outcome) -> Iterator[None]:
    """Say which index is missing where a statement took too long."""
    try:
        yield
    except AdapterError as error:
        if error.reason is not Reason.TIMEOUT:
            raise
        raise AdapterError(error.reason, f"{error}; create the index: {index_advice(table, role)}") from None


async def _rows(transaction: Transaction, name: str, query: sql.Composable, doing: str) -> list[tuple[Any, ...]]:
    rows = await transaction.fetch(name, query, doing=doing)
    if len(rows) > MAX_ROWS:
        raise AdapterError(
            Reason.COST,
            f"{doing}: more than {MAX_ROWS} groups: the columns for queue, task and worker must hold names, priority"
            " a level",
        )
    return rows
