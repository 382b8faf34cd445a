"""The statements over a jobs table and a worker table, but for what waits: small sets through indexes.

Each state word is a SELECT of its own with the word as a literal: `state IN (…)`, `NOT IN (…)`, functions of the
column and parameters all lose partial indexes (PostgreSQL 15, measured).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from psycopg import sql

from taskq_exporter.api import Outcome, State
from taskq_exporter_postgres.options import WAITING, Table
from taskq_exporter_postgres.table import BoundTable, seconds_between

__all__ = [
    "MAX_ROWS",
    "active_jobs",
    "finished_jobs",
    "index_advice",
    "worker_rows",
]

#: Groups that one statement may return: far above the caps, so that a column of ids as queue name is refused.
MAX_ROWS = 20_000
#: Since the oldest `since` of a group: one subtraction for a group, not one for a job.
_AGE = seconds_between(sql.SQL("min(nullif(since, '-infinity'))"), sql.SQL("now()"))


def _union(selects: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(" UNION ALL ").join(selects)


def active_jobs(jobs: BoundTable, table: Table) -> sql.Composable:
    """Rows of kind jobs: held and blocked ones; task and worker only of running and reserved jobs."""

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
        "SELECT queue, state, task, worker, NULL::text AS priority, count(*) AS n, {age} AS oldest_seconds,"
        " NULL::bigint AS overdue FROM ({jobs}) AS active GROUP BY queue, state, task, worker"
    ).format(age=_AGE, jobs=_union(one(s, word) for s in states for word in table.words(s)))


def worker_rows(workers: BoundTable, *, stale_after: float, forget_after: float) -> sql.Composable:
    """Rows of kind workers, the freshest first.

    A start before 1970 and negative slots are how "not known" was written: NULL.
    """
    heartbeat, started = workers.time("heartbeat"), workers.time("started_at")
    return sql.SQL(
        "SELECT {id} AS worker, {heartbeat} > now() - make_interval(secs => {stale}) AS up, NULL::text AS state,"
        " extract(epoch FROM {heartbeat})::float8 AS last_heartbeat,"
        " CASE WHEN isfinite({started}) AND {started} >= to_timestamp(0)"
        " THEN extract(epoch FROM {started})::float8 END AS started, CASE WHEN {slots} >= 0 THEN {slots} END AS slots,"
        " NULL::bigint AS running, NULL::bigint AS reserved, NULL::text AS pool, NULL::text AS software,"
        " NULL::text AS software_version, NULL::bigint AS n"
        " FROM {table} WHERE {recent} AND isfinite({heartbeat}) ORDER BY last_heartbeat DESC"
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
    )


def finished_jobs(
    jobs: BoundTable, table: Table, outcomes: Sequence[Outcome], *, at_once: bool = False
) -> Callable[[float, sql.Composable], sql.Composable]:
    """Makes rows of kind finished: jobs over since a Unix time, under a condition; the key NULL without an id column.

    Composed as far as it is the same each time, which takes longer than to send it. `at_once`: of all state words
    together, which an index on the time alone gives in one reading.
    """
    finished, started = jobs.time("finished_at"), jobs.time("started_at")
    scheduled = jobs.time("scheduled_at", null_where=table.immediate_sentinel)
    runnable = sql.SQL("greatest({}, {})").format(jobs.time("created_at"), scheduled)

    def rows(outcome: sql.Composable, is_word: sql.Composable) -> sql.Composable:
        text = sql.SQL(
            "SELECT {outcome}::text AS outcome, {queue} AS queue, {task} AS task, {run} AS run_seconds,"
            " {wait} AS wait_seconds, {id} AS key, CASE WHEN isfinite({finished})"
            " THEN extract(epoch FROM {finished})::float8 END AS finished_at, NULL::bigint AS total FROM {table}"
            " WHERE {is_word} AND "
        ).format(
            outcome=outcome,
            queue=jobs.label("queue", table.default_queue),
            task=jobs.label("task", ""),
            run=seconds_between(started, finished),
            wait=seconds_between(runnable, started),
            id=jobs.text("id"),
            finished=finished,
            table=jobs.name.identifier,
            is_word=is_word,
        )
        return sql.SQL(text.as_string(None))

    words = [(outcome, word) for outcome in outcomes for word in table.words(outcome)]
    if at_once:
        cases = [sql.SQL("WHEN {} THEN {}").format(word, outcome.value) for outcome, word in words]
        listed = sql.SQL(", ").join(sql.Literal(word) for _, word in words)
        state = jobs.column("state")
        selects = [
            rows(
                sql.SQL("CASE {} {} END").format(state, sql.SQL(" ").join(cases)),
                sql.SQL("{} IN ({})").format(state, listed),
            )
        ]
    else:
        selects = [rows(sql.Literal(outcome.value), jobs.state_is(word)) for outcome, word in words]

    def query(since: float, where: sql.Composable) -> sql.Composable:
        recent = sql.SQL("{} AND {}").format(jobs.after("finished_at", since), where)
        return _union(select + recent for select in selects)

    return query


def index_advice(table: Table, role: State | Outcome) -> str:
    """The index that makes counting a state, or finding what ended, independent of the table's size."""
    columns, name = table.columns, table.table_name
    lead = [sql.Identifier(columns.queue)] if columns.queue else []
    beside: list[sql.Identifier] = []  # what is read besides, so that the index alone is read
    if isinstance(role, Outcome):
        keys, column = [sql.Identifier(columns.finished_at or "")], sql.Identifier(columns.finished_at or "")
        where: sql.Composable = sql.SQL("{} IS NOT NULL").format(column)
    else:
        time = columns.scheduled_at if role in WAITING else columns.started_at
        if role in WAITING:
            lead += [sql.Identifier(columns.priority)] if columns.priority else []
            beside = [sql.Identifier(column) for column in (columns.created_at, columns.attempts) if column]
        keys = [*lead, *([sql.Identifier(time)] if time else [])] or [sql.Identifier(columns.state)]
        word = sql.Literal(table.words(role)[0])
        where = sql.SQL("{} = {}").format(sql.Identifier(columns.state), word)
    include = sql.SQL(" INCLUDE ({})").format(sql.SQL(", ").join(beside)) if beside else sql.SQL("")
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({}){} WHERE {};")
        .format(name.identifier, sql.SQL(", ").join(keys), include, where)
        .as_string(None)
    )
