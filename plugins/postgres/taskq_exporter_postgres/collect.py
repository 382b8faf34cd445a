"""What is true now: live jobs by queue and state, their ages, workers and schedules, in one read-only transaction."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import Any

from psycopg import sql
from taskq_exporter_sql import SqlClient, Transaction, read_only, server_told

from taskq_exporter.api import AdapterError, Problem, Reason, Snapshot, Source
from taskq_exporter_postgres.binding import bind
from taskq_exporter_postgres.bound import OF_ONE, Binding, BoundStatement, Query, advised, guarded
from taskq_exporter_postgres.capabilities import capabilities
from taskq_exporter_postgres.columns import COLUMNS
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.people import Schedules, Workers
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.preset import COLLECTED
from taskq_exporter_postgres.statements import MAX_ROWS
from taskq_exporter_postgres.tally import Tally, told

__all__ = ["collect"]

#: Seconds for which a statement that stopped at its limit is taken to do so again.
FULL_FOR = 60.0
_FULL = "full"
_N = list(COLUMNS["jobs"]).index("n")
_NOT_GONE = " WHERE (last_heartbeat > extract(epoch FROM now()) - {}) IS NOT FALSE"


async def collect(source: Source, client: SqlClient) -> Snapshot:
    """Counts, ages, workers and schedules at one moment, by the server's clock. Ages in seconds, at least 0.

    Raises:
        AdapterError: As the toolkit's; schema, permission and unsupported where the tables do not fit the options;
            timeout with the index that is missing; cost where nothing may be counted, or a column has far too many
            values.
    """
    clock = asyncio.get_running_loop().time
    ends = clock() + source.timeout
    try:
        async with read_only(client, timeout=source.timeout) as transaction:
            snapshot = await _collect(source, client, transaction)
    except BaseException:
        client.memory.clear()  # the tables may have changed: look at the catalogs again
        raise
    roundtrip, left = transaction.roundtrip_seconds, ends - clock()
    server = await server_told(client, roundtrip=roundtrip, left=left, disabled=source.disabled)
    return replace(
        snapshot,
        broker=server.stats,
        capabilities=[*snapshot.capabilities, *server.capabilities],
        problems=[*snapshot.problems, *server.problems],
        commands=transaction.commands,  # since it began
    )


async def _collect(source: Source, client: SqlClient, transaction: Transaction) -> Snapshot:
    options: PostgresOptions = source.options
    binding = await bind(source, client, transaction, COLLECTED)
    blanks = Blanks(schema=binding.schema, limit=options.max_count + 1)
    if not binding.guarded:
        await guarded(transaction, binding, blanks, COLLECTED, allow_seq_scan=options.allow_seq_scan)
        binding.statements = [_written(one, blanks, source.worker_ttl) for one in binding.statements]
    binding.capabilities = binding.capabilities or capabilities(options, binding)
    _some_jobs(binding)
    problems = list(binding.problems)
    answers: list[tuple[BoundStatement, list[tuple[Any, ...]], bool]] = []
    for one in binding.statements:
        try:
            if one.optional and one is not binding.statements[-1]:
                async with transaction.savepoint():
                    rows, capped = await _spread(client, transaction, one, blanks)
            else:
                rows, capped = await _spread(client, transaction, one, blanks)
            answers.append((one, rows, capped))
        except AdapterError as error:
            if not one.optional or error.reason not in (*OF_ONE, Reason.BUSY):
                raise
            problems.append(Problem(reason=error.reason, part=f"{one.kind}.{one.name}", message=str(error)))
    tally = Tally(told(one for one, *_ in answers), binding.default_queue, options.max_count)
    if options.table and options.table.columns.queue is None:
        tally.exists(binding.default_queue)  # however empty
    workers, schedules = Workers(), Schedules()
    for one, rows, capped in answers:
        match one.kind:
            case "jobs":
                tally.add(one, rows, capped=capped)
            case "queues":
                for queue, consumers, slots, paused, enqueued in rows:
                    total = None if enqueued is None else {"": enqueued}
                    name = queue or binding.default_queue
                    if name in binding.unreadable:
                        continue  # what is in it is not known
                    tally.exists(name, consumers=consumers, slots=slots, paused=paused, enqueued=total)
            case "workers":
                workers.add(one, rows)
            case "schedules":
                schedules.add(rows)
    if problems:
        client.memory.clear()  # perhaps mended by the next time
    visible = "rows" not in binding.lacking
    return Snapshot(
        server="postgresql",
        server_version=client.server_version,
        queues=tally.queues() if visible else [],
        queues_complete=visible
        and not tally.capped
        and not any(p.part.startswith(("jobs.", "queues")) for p in problems),
        longest_runs=tally.longest_runs(),
        workers=tally.workers(workers.known),
        worker_states=workers.states,
        schedulers=schedules.records(),
        capabilities=binding.capabilities,
        problems=problems,
        query_seconds={one.name: transaction.seconds[one.name] for one, *_ in answers},
    )


def _some_jobs(binding: Binding) -> None:
    """Raises the first failure where no statement over jobs is left."""
    lost = [problem for problem in binding.problems if problem.part.startswith("jobs.")]
    if lost and not binding.of("jobs"):
        raise AdapterError(lost[0].reason, lost[0].message)


def _written(one: BoundStatement, blanks: Blanks, worker_ttl: float) -> BoundStatement:
    """The statement as it is sent, the same at each collect: composing it takes as long as sending it."""
    recent = sql.SQL(_NOT_GONE).format(sql.Literal(worker_ttl))

    def fixed(query: Query) -> Query:
        whole = sql.SQL("SELECT * FROM ({}) AS s{} LIMIT {}").format(
            query(blanks),
            recent if one.kind == "workers" and not one.generated else sql.SQL(""),
            sql.Literal(MAX_ROWS + 1),
        )
        text = sql.SQL(whole.as_string(None))
        return lambda _: text

    return replace(one, query=fixed(one.query), spread=fixed(one.spread) if one.spread else None)


async def _spread(
    client: SqlClient, transaction: Transaction, one: BoundStatement, blanks: Blanks
) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows of a statement, and whether they stopped at the limit, but then with some of each queue.

    In its usual form it may stop within the first queue. For a minute after that it is asked for in the other one.
    """
    if one.spread is None:
        return await _rows(transaction, one, one.query(blanks)), False
    now = asyncio.get_running_loop().time()
    full: dict[str, float] = client.memory.setdefault(_FULL, {})
    if now - full.get(one.name, -inf) >= FULL_FOR:
        rows = await _rows(transaction, one, one.query(blanks))
        if sum(row[_N] or 0 for row in rows) < blanks.limit:
            return rows, False
        full[one.name] = now
    return await _rows(transaction, one, one.spread(blanks)), True


async def _rows(transaction: Transaction, one: BoundStatement, query: sql.Composable) -> list[tuple[Any, ...]]:
    try:
        rows = await transaction.fetch(one.name, query, doing=one.doing, again=True)
    except AdapterError as error:
        raise advised(one, error) from None
    if len(rows) > MAX_ROWS:
        raise AdapterError(
            Reason.COST,
            f"{one.doing}: more than {MAX_ROWS} groups: queue, task and worker must hold names, priority a level",
        )
    return rows
