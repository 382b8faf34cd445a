"""A described table bound to what the catalogs say is there: the same statements as a preset's, generated."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from taskq_exporter_sql import Relation, TableName, Transaction, describe

from taskq_exporter.api import AdapterError, Outcome, Problem, State
from taskq_exporter_postgres.bind import bind_texts
from taskq_exporter_postgres.bound import OF_ONE, Binding, BoundStatement, Query
from taskq_exporter_postgres.capabilities import able_states, tells_overdue, tells_ready_age
from taskq_exporter_postgres.options import LIVE, WAITING, PostgresOptions, Table
from taskq_exporter_postgres.statements import (
    active_jobs,
    finished_jobs,
    index_advice,
    worker_rows,
)
from taskq_exporter_postgres.table import BoundTable
from taskq_exporter_postgres.waiting import can_be_stepped, spread_jobs, stepped_jobs, waiting_jobs

__all__ = ["FINISHED_ROLES", "JOB_TIMES", "LIVE_ROLES", "bind_jobs", "bind_table", "bind_workers", "tables_of"]

JOB_TIMES = ("scheduled_at", "started_at", "finished_at", "created_at")
#: What collect() reads; finished_at and id are the follower's.
LIVE_ROLES = ("state", "queue", "task", "priority", "scheduled_at", "started_at", "created_at", "worker", "attempts")
FINISHED_ROLES = ("id", "state", "queue", "task", "scheduled_at", "started_at", "finished_at", "created_at")


def bind_jobs(
    options: PostgresOptions, found: dict[TableName, Relation], roles: tuple[str, ...], *, needs_xmin: bool = False
) -> BoundTable:
    """The jobs table with the columns of these roles. Raises AdapterError: schema, permission, unsupported."""
    table = _table(options)
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
    workers, table = options.workers, _table(options)
    if workers is None:
        return None
    return BoundTable(
        workers.table_name,
        found.get(workers.table_name),
        workers.columns.given(),
        times=("heartbeat", "started_at"),
        naive_timezone=workers.naive_timezone or table.naive_timezone,
        epoch_unit=workers.epoch_unit or table.epoch_unit,
    )


def tables_of(options: PostgresOptions) -> list[TableName]:
    """The jobs table, and that of the workers where there is one."""
    return [_table(options).table_name, *([options.workers.table_name] if options.workers else [])]


async def bind_table(
    transaction: Transaction, options: PostgresOptions, kinds: Sequence[str], *, worker_ttl: float
) -> Binding:
    """The statements of these kinds over the table, with the user's own, as they fit the database.

    Raises AdapterError: schema, permission, unsupported. Hidden rows and workers that do not fit are problems of it.
    """
    table = _table(options)
    found = await describe(transaction, tables_of(options))
    binding = Binding(schema=options.schema_name, statements=[], default_queue=table.default_queue)
    if "finished" in kinds:
        if options.outcomes:
            binding.mode = options.finished.mode
            jobs = bind_jobs(options, found, FINISHED_ROLES, needs_xmin=binding.mode == "xid")
            jobs.need_all_rows()
            binding.statements = [_finished(jobs, table, options.outcomes)]
        return binding
    jobs = bind_jobs(options, found, LIVE_ROLES)
    live = _live(jobs, table, options)
    try:
        jobs.need_all_rows()
        binding.statements = live
    except AdapterError as error:  # the server and the workers are known nevertheless
        binding.problems.append(Problem(reason=error.reason, part="rows", message=str(error)))
        binding.lacking["rows"] = error.reason
        binding.dropped = live
    try:
        if workers := bind_workers(options, found):
            workers.need_all_rows()
            binding.statements = [*binding.statements, _workers(workers, options, worker_ttl)]
    except AdapterError as error:  # the jobs are known nevertheless
        if error.reason not in OF_ONE:
            raise
        binding.problems.append(Problem(reason=error.reason, part="workers", message=str(error)))
        binding.lacking["workers"] = error.reason
    if options.sql:
        replaced = {(kind, name) for kind in kinds for name in getattr(options.sql, kind)}
        binding.statements = [one for one in binding.statements if (one.kind, one.name) not in replaced]
        await bind_texts(transaction, binding, options.sql, kinds, options=options, members={}, missing="")
    return binding


def _live(jobs: BoundTable, table: Table, options: PostgresOptions) -> list[BoundStatement]:
    columns, able = table.columns, able_states(options)
    statements = []
    waiting = tuple(state for state in able if state in WAITING)
    if waiting:
        told = {"queue", "state", "n"}
        told |= {"priority"} if columns.priority else set()
        told |= {"oldest_seconds"} if tells_ready_age(table) else set()
        told |= {"overdue"} if tells_overdue(table) else set()
        role = next(state for state in WAITING if table.words(state))
        statements.append(
            BoundStatement(
                kind="jobs",
                name="waiting",
                query=lambda blanks: waiting_jobs(jobs, table, limit=blanks.limit),
                columns=frozenset(told),
                states=waiting,
                limited=True,
                forms=[lambda blanks: waiting_jobs(jobs, table, limit=blanks.limit, ordered=True)],
                stepped=(lambda blanks: stepped_jobs(jobs, table, limit=blanks.limit, indexes=blanks.indexes))
                if can_be_stepped(jobs, table)
                else None,
                spread=(lambda blanks: spread_jobs(jobs, table, limit=blanks.limit)) if columns.queue else None,
                index=index_advice(table, role),
                spread_index=index_advice(table, role) if columns.queue else "",
            )
        )
    held = tuple(state for state in LIVE if state not in WAITING and table.words(state))
    if held:
        told = {"queue", "state", "n"}
        told |= {"oldest_seconds"} if columns.started_at else set()
        told |= {"task"} if columns.task else set()
        told |= {"worker"} if columns.worker else set()
        role = State.RUNNING if State.RUNNING in held else held[0]
        statements.append(
            BoundStatement(
                kind="jobs",
                name="active",
                query=lambda _: active_jobs(jobs, table),
                columns=frozenset(told),
                states=held,
                index=index_advice(table, role),
            )
        )
    return statements


def _workers(workers: BoundTable, options: PostgresOptions, worker_ttl: float) -> BoundStatement:
    stale_after = options.workers.stale_after if options.workers else 0.0
    query = worker_rows(workers, stale_after=stale_after, forget_after=worker_ttl)
    told = {"worker", "up", "last_heartbeat"}
    told |= {"started"} if workers.has("started_at") else set()
    told |= {"slots"} if workers.has("slots") else set()
    return BoundStatement(
        kind="workers",
        name="workers",
        query=lambda _: query,
        columns=frozenset(told),
        optional=True,
        generated=True,
    )


def _finished(jobs: BoundTable, table: Table, outcomes: tuple[Outcome, ...]) -> BoundStatement:
    told = {"outcome", "queue", "task", "run_seconds", "wait_seconds", "key", "finished_at"}

    def query(at_once: bool) -> Query:
        rows = finished_jobs(jobs, table, outcomes, at_once=at_once)
        return lambda blanks: rows(blanks.since, blanks.window(sql.Identifier("xmin")))

    return BoundStatement(
        kind="finished",
        name="finished",
        query=query(False),
        forms=[query(True)],
        columns=frozenset(told),
        outcomes=outcomes,
        index=index_advice(table, outcomes[0]),
    )


def _table(options: PostgresOptions) -> Table:
    if options.table is None:
        raise ValueError("no table is configured")
    return options.table
