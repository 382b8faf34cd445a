"""The statements over a jobs table and a worker table: small sets through partial or leading-state indexes.

Each state word is a SELECT of its own with the word as a literal: `state IN (…)`, `NOT IN (…)`, functions of the
column and parameters all lose partial indexes (PostgreSQL 15, measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from psycopg import sql

from taskq_exporter.api import Outcome, State
from taskq_exporter_postgres.options import WAITING, Table
from taskq_exporter_postgres.table import BoundTable, seconds_between

__all__ = [
    "MAX_GROUPS",
    "MAX_ROWS",
    "active_jobs",
    "finished_jobs",
    "finished_totals",
    "index_advice",
    "waiting_jobs",
    "worker_rows",
]

#: Groups that one statement may return: far above the caps, so that a column of ids as queue name is refused.
MAX_ROWS = 20_000
#: Groups of jobs that ended: each queue and task once for each pair of buckets.
MAX_GROUPS = 50_000
_LIMIT = sql.Literal(MAX_ROWS + 1)
#: Since the oldest `since` of a group: one subtraction for a group, not one for a job.
_AGE = seconds_between(sql.SQL("min(nullif(since, '-infinity'))"), sql.SQL("now()"))


def _union(selects: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(" UNION ALL ").join(selects)


def waiting_jobs(jobs: BoundTable, table: Table) -> sql.Composable:
    """Rows (queue, priority, state, overdue, count, oldest age of those that are ready)."""
    scheduled = jobs.time("scheduled_at", null_where=table.immediate_sentinel)
    runnable = sql.SQL("greatest({}, {})").format(jobs.time("created_at"), scheduled)
    tried = sql.SQL("coalesce({} > 0, false)").format(jobs.column("attempts")) if jobs.has("attempts") else None

    def one(state: State, word: str) -> sql.Composable:
        # a job without a time is due, unless its state says that it waits
        due = sql.SQL("coalesce({} <= now(), {})").format(scheduled, sql.Literal(state is State.READY))
        later: sql.Composable = sql.Literal("retry" if state is State.RETRY else "scheduled")
        if tried is not None:
            later = sql.SQL("CASE WHEN {} THEN 'retry' ELSE {} END").format(tried, later)
        return sql.SQL(
            "SELECT {queue} AS queue, {priority} AS priority, CASE WHEN {due} THEN 'ready' ELSE {later} END AS state,"
            " {due} AND {moved} AS overdue, {since} AS since FROM {table} WHERE {is_word}"
        ).format(
            queue=jobs.label("queue", table.default_queue),
            priority=jobs.label("priority"),
            due=due,
            later=later,
            moved=sql.Literal(state is not State.READY),
            since=runnable,
            table=jobs.name.identifier,
            is_word=jobs.state_is(word),
        )

    return sql.SQL(
        "SELECT queue, priority, state, overdue, count(*), {age} FROM ({jobs}) AS waiting"
        " GROUP BY 1, 2, 3, 4 LIMIT {limit}"
    ).format(age=_AGE, jobs=_union(one(s, word) for s in WAITING for word in table.words(s)), limit=_LIMIT)


def active_jobs(jobs: BoundTable, table: Table) -> sql.Composable:
    """Rows (state, queue, task, worker, count, longest run); task and worker only of running and reserved jobs."""

    def one(state: State, word: str) -> sql.Composable:
        held = state is not State.BLOCKED
        started = jobs.time("started_at") if state is State.RUNNING else sql.SQL("NULL::timestamptz")
        return sql.SQL(
            "SELECT {state} AS state, {queue} AS queue, {task} AS task, {worker} AS worker, {since} AS since"
            " FROM {table} WHERE {is_word}"
        ).format(
            state=sql.Literal(state.value),
            queue=jobs.label("queue", table.default_queue),
            task=jobs.label("task", "") if held else sql.SQL("''::text"),
            worker=jobs.label("worker") if held else sql.SQL("NULL::text"),
            since=started,
            table=jobs.name.identifier,
            is_word=jobs.state_is(word),
        )

    states = (State.RESERVED, State.RUNNING, State.BLOCKED)
    return sql.SQL(
        "SELECT state, queue, task, worker, count(*), {age} FROM ({jobs}) AS active GROUP BY 1, 2, 3, 4 LIMIT {limit}"
    ).format(age=_AGE, jobs=_union(one(s, word) for s in states for word in table.words(s)), limit=_LIMIT)


def worker_rows(workers: BoundTable, *, stale_after: float, forget_after: float) -> sql.Composable:
    """Rows (worker, heartbeat in Unix seconds, up, start in Unix seconds, slots), the freshest first.

    A start before 1970 and negative slots are how "not known" was written: NULL.
    """
    heartbeat, started = workers.time("heartbeat"), workers.time("started_at")
    return sql.SQL(
        "SELECT {id}, extract(epoch FROM {heartbeat})::float8, {heartbeat} > now() - make_interval(secs => {stale}),"
        " CASE WHEN isfinite({started}) AND {started} >= to_timestamp(0)"
        " THEN extract(epoch FROM {started})::float8 END, CASE WHEN {slots} >= 0 THEN {slots} END"
        " FROM {table} WHERE {recent} AND isfinite({heartbeat}) ORDER BY 2 DESC LIMIT {limit}"
    ).format(
        id=workers.label("id", ""),
        heartbeat=heartbeat,
        stale=sql.Literal(stale_after),
        started=started,
        slots=sql.SQL("{}::bigint").format(workers.column("slots"))
        if workers.has("slots")
        else sql.SQL("NULL::bigint"),
        table=workers.name.identifier,
        recent=sql.SQL("{} > now() - make_interval(secs => {})").format(
            heartbeat, sql.Literal(max(stale_after, forget_after))
        ),
        limit=_LIMIT,
    )


def finished_jobs(
    jobs: BoundTable, table: Table, outcomes: Sequence[Outcome], *, since: float, where: sql.Composable | None = None
) -> sql.Composable:
    """Rows (outcome, queue, task, run, wait, id, finished_at) of jobs over since; `id` NULL where not given."""
    finished, started = jobs.time("finished_at"), jobs.time("started_at")
    scheduled = jobs.time("scheduled_at", null_where=table.immediate_sentinel)
    runnable = sql.SQL("greatest({}, {})").format(jobs.time("created_at"), scheduled)

    def one(outcome: Outcome, word: str) -> sql.Composable:
        return sql.SQL(
            "SELECT {outcome}::text AS outcome, {queue} AS queue, {task} AS task, {run} AS run, {wait} AS wait,"
            " {id} AS id, CASE WHEN isfinite({finished}) THEN extract(epoch FROM {finished})::float8 END AS finished"
            " FROM {table}"
            " WHERE {is_word} AND {recent}{where}"
        ).format(
            outcome=sql.Literal(outcome.value),
            queue=jobs.label("queue", table.default_queue),
            task=jobs.label("task", ""),
            run=seconds_between(started, finished),
            wait=seconds_between(runnable, started),
            id=jobs.text("id"),
            finished=finished,
            table=jobs.name.identifier,
            is_word=jobs.state_is(word),
            recent=jobs.after("finished_at", since),
            where=sql.SQL(" AND {}").format(where) if where is not None else sql.SQL(""),
        )

    return _union(one(outcome, word) for outcome in outcomes for word in table.words(outcome))


def finished_totals(
    finished: sql.Composable,
    *,
    run_bounds: Sequence[float],
    wait_bounds: Sequence[float],
    labels: Sequence[Literal["queue", "task"]] = ("queue", "task"),
) -> sql.Composable:
    """Rows (outcome, queue, task, run bucket, wait bucket, count, sum of runs, sum of waits) of `finished_jobs`.

    A bucket is an index into the bounds, their number for +Inf; NULL where the time is not known. Of queue and task,
    those that are not in `labels` are `_other`. There is a row more than MAX_GROUPS where there are too many.
    """
    return sql.SQL(
        "SELECT outcome, {queue}, {task}, {run}, {wait}, count(*), sum(run), sum(wait)"
        " FROM ({finished}) AS finished GROUP BY 1, 2, 3, 4, 5 LIMIT {limit}"
    ).format(
        queue=sql.SQL("queue" if "queue" in labels else "'_other'::text"),
        task=sql.SQL("task" if "task" in labels else "'_other'::text"),
        limit=sql.Literal(MAX_GROUPS + 1),
        run=_bucket("run", run_bounds),
        wait=_bucket("wait", wait_bounds),
        finished=finished,
    )


def _bucket(column: str, bounds: Sequence[float]) -> sql.Composable:
    # width_bucket() counts the bounds at or below a value; ours holds the values at or below its bound: mirrored
    mirrored = sql.SQL(", ").join(sql.Literal(-bound) for bound in reversed(bounds))
    return sql.SQL("{} - width_bucket(-{}, ARRAY[{}]::float8[])").format(
        sql.Literal(len(bounds)), sql.Identifier(column), mirrored
    )


def index_advice(table: Table, role: State | Outcome) -> str:
    """The index that makes counting a state, or finding what ended, independent of the table's size."""
    columns, name = table.columns, table.table_name
    lead = [sql.Identifier(columns.queue)] if columns.queue else []
    if isinstance(role, Outcome):
        keys, column = [sql.Identifier(columns.finished_at or "")], sql.Identifier(columns.finished_at or "")
        where: sql.Composable = sql.SQL("{} IS NOT NULL").format(column)
    else:
        time = columns.scheduled_at if role in WAITING else columns.started_at
        keys = [*lead, *([sql.Identifier(time)] if time else [])] or [sql.Identifier(columns.state)]
        word = sql.Literal(table.words(role)[0])
        where = sql.SQL("{} = {}").format(sql.Identifier(columns.state), word)
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({}) WHERE {};")
        .format(name.identifier, sql.SQL(", ").join(keys), where)
        .as_string(None)
    )
