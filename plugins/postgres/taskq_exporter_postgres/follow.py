"""Jobs that are over: looked for on a timer, each counted once, and fed to the ledger."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from psycopg import sql
from taskq_exporter_sql import Horizon, SqlClient, Transaction, XidCursor, describe, read_horizon, read_only

from taskq_exporter.api import Ledger, Outcome, Source
from taskq_exporter_postgres.collect import advised, bind_jobs
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.statements import MAX_GROUPS, finished_jobs, finished_totals

__all__ = ["follow", "step"]

FINISHED_ROLES = ("id", "state", "queue", "task", "scheduled_at", "started_at", "finished_at", "created_at")
#: A step rests for this many times its own duration.
IDLE_SHARE = 20
#: Jobs that mode `ids` may remember.
MAX_IDS = 200_000
#: What finished jobs are counted by, until the groups are few enough; by outcome alone they are.
_LABELS: Final[tuple[tuple[Literal["queue", "task"], ...], ...]] = (("queue", "task"), ("queue",), ())


async def follow(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """Count finished jobs until cancelled. Raises AdapterError as collect()."""
    options: PostgresOptions = source.options
    if not options.outcomes:
        ledger.following(None)
        await asyncio.Event().wait()  # nothing to count: an end would be taken for a failure
    ledger.counts("finished")
    clock = asyncio.get_running_loop().time
    while True:
        started = clock()
        await step(source, client, ledger)
        took = clock() - started
        await asyncio.sleep(max(options.poll_interval, IDLE_SHARE * took) - took)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found: rows of finished_totals(), and where the follower stands after them."""

    cursor: Any
    lag: float | None
    rows: Sequence[tuple[Any, ...]] = field(default=())
    misfit: str = ""
    gap: bool = False  # jobs that were committed late may be missing


async def step(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """One look at what ended since the last one.

    Raises:
        AdapterError: Of any reason; nothing is counted then, and the next look finds the same jobs.
    """
    options: PostgresOptions = source.options
    look_at = _look_by_ids if options.finished.mode == "ids" else _look_by_xid
    async with read_only(client, timeout=source.timeout) as transaction:
        with advised(options.table, options.outcomes[0]):
            look = await look_at(options, transaction, ledger)
    # from here on no await: counts and cursor change together
    if look.misfit:
        ledger.start_over(look.misfit)
    if look.gap:
        ledger.gap()
    _count(look.rows, ledger)
    ledger.cursor = look.cursor
    ledger.commands(transaction.commands)
    ledger.following(look.lag)


async def _look_by_xid(options: PostgresOptions, transaction: Transaction, ledger: Ledger) -> _Look:
    found = await describe(transaction, [options.table.table_name])
    jobs = bind_jobs(options, found, FINISHED_ROLES, needs_xmin=True)
    jobs.need_all_rows()
    horizon = await read_horizon(transaction)
    if ledger.cursor is None:
        return _Look(XidCursor.start(horizon).dump(), 0.0)
    try:
        cursor = XidCursor.load(ledger.cursor)
        misfit = cursor.misfit(horizon)
    except ValueError as error:
        misfit = str(error)
    if misfit:
        return _Look(XidCursor.start(horizon).dump(), 0.0, misfit=misfit)
    if horizon.oldest < cursor.oldest:  # a standby that is behind the server asked before
        return _Look(ledger.cursor, None)
    rows: Sequence[tuple[Any, ...]] = ()
    if horizon.oldest > cursor.oldest:
        finished = finished_jobs(
            jobs,
            options.table,
            options.outcomes,
            since=cursor.since - options.finished.overlap,
            where=cursor.window(horizon, sql.Identifier("xmin")),
        )
        rows = await _fetch_totals(transaction, ledger, finished)
    moved = cursor.advance(horizon)
    return _Look(moved.dump(), moved.lag(horizon), rows)


async def _look_by_ids(options: PostgresOptions, transaction: Transaction, ledger: Ledger) -> _Look:
    found = await describe(transaction, [options.table.table_name])
    jobs = bind_jobs(options, found, FINISHED_ROLES)
    jobs.need_all_rows()
    horizon = await read_horizon(transaction)
    cursor, misfit = ledger.cursor, ""
    if cursor is not None:
        if not isinstance(cursor, dict) or not isinstance(cursor.get("seen"), list):
            misfit = "not a cursor by ids"
        elif cursor["database"] != horizon.database:
            misfit = "the database was made anew"
        elif cursor["since"] > horizon.now + options.finished.overlap and not horizon.standby:
            misfit = "the server's clock is behind the cursor"
    start = cursor is None or bool(misfit)
    since = (horizon.now if start else float(cursor["since"])) - options.finished.overlap
    known = None if start else cursor
    finished = finished_jobs(jobs, options.table, options.outcomes, since=since)
    floor = known["floor"] if known else None
    query = sql.SQL("SELECT * FROM ({}) AS finished{} LIMIT {}").format(
        finished,
        sql.SQL("")
        if floor is None
        else sql.SQL(" WHERE (finished > {}) IS NOT FALSE").format(sql.Literal(floor)),  # NULL: it ended at infinity
        sql.Literal(MAX_IDS + 1),
    )
    rows = await transaction.fetch("finished", query, doing="reading finished jobs")
    if len(rows) > MAX_IDS:
        return replace(await _look_past_ids(transaction, ledger, finished, known, horizon), misfit=misfit)
    # an id alone is not unique in a view, and a job that ran again ended at another time;
    # every later window begins later, so what this one shows is all that must be remembered
    seen = {(job, ended) for *_, job, ended in rows if job is not None}
    before = {(job, ended) for job, ended in known["seen"]} if known else seen
    new = [
        (
            outcome,
            queue,
            task,
            None if run is None else bisect_left(ledger.run_bounds, run),
            None if wait is None else bisect_left(ledger.wait_bounds, wait),
            1,
            run,
            wait,
        )
        for outcome, queue, task, run, wait, job, ended in rows
        if job is not None and (job, ended) not in before
    ]
    state = {"since": horizon.now, "floor": floor, "seen": list(seen), "database": horizon.database}
    return _Look(state, 0.0, new, misfit)


async def _look_past_ids(
    transaction: Transaction, ledger: Ledger, finished: sql.Composable, cursor: dict[str, Any] | None, horizon: Horizon
) -> _Look:
    """More jobs ended than can be remembered: count by time what ended after all that was seen, and begin anew."""
    now = horizon.now
    state = {"since": now, "floor": now, "seen": [], "database": horizon.database}
    if cursor is None:
        return _Look(state, 0.0)
    ends = [ended for _, ended in cursor["seen"] if ended is not None and ended <= now]
    last = max([*ends, *([] if cursor["floor"] is None else [cursor["floor"]])], default=None)
    part = sql.SQL("SELECT * FROM ({}) AS finished WHERE id IS NOT NULL AND finished <= {}{}").format(
        finished,
        sql.Literal(now),
        sql.SQL("") if last is None else sql.SQL(" AND finished > {}").format(sql.Literal(last)),
    )
    rows = await _fetch_totals(transaction, ledger, part)
    # clocks ahead: what was counted and ended after `now` is found again
    state["seen"] = [(job, ended) for job, ended in cursor["seen"] if ended is None or ended > now]
    return _Look(state, 0.0, rows, gap=True)


async def _fetch_totals(
    transaction: Transaction, ledger: Ledger, finished: sql.Composable
) -> Sequence[tuple[Any, ...]]:
    """Rows of finished_totals(), under `_other` what has too many names: tasks first, queues where that is not enough.

    Every job is counted: a number of names that is refused once would be refused for ever.
    """
    rows: Sequence[tuple[Any, ...]] = ()
    for labels in _LABELS:
        totals = finished_totals(finished, run_bounds=ledger.run_bounds, wait_bounds=ledger.wait_bounds, labels=labels)
        rows = await transaction.fetch("finished", totals, doing="counting finished jobs")
        if len(rows) <= MAX_GROUPS:
            break
    return rows


def _count(rows: Sequence[tuple[Any, ...]], ledger: Ledger) -> None:
    """Feed rows of finished_totals() to the ledger, one call for each of its label sets."""
    finished: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    runs: dict[tuple[str, str, str], _Histogram] = {}
    waits: dict[tuple[str, str], _Histogram] = {}
    for outcome, queue, task, run_bucket, wait_bucket, n, run_sum, wait_sum in rows:
        finished[queue, task, outcome] += n
        if run_bucket is not None:
            runs.setdefault((queue, task, outcome), _Histogram(ledger.run_bounds)).add(run_bucket, n, run_sum)
        if wait_bucket is not None:
            waits.setdefault((queue, task), _Histogram(ledger.wait_bounds)).add(wait_bucket, n, wait_sum)
    for (queue, task, outcome), n in finished.items():
        ledger.finished(queue, task, Outcome(outcome), n=n)
    for (queue, task, outcome), run in runs.items():
        ledger.ran_many(queue, task, Outcome(outcome), run.counts, run.total)
    for (queue, task), wait in waits.items():
        ledger.waited_many(queue, wait.counts, wait.total, task)
    ledger.events(sum(finished.values()))


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, bucket: int, n: int, total: float) -> None:
        self.counts[bucket] += n
        self.total += total
