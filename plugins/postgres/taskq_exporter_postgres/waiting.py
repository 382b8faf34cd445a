"""Jobs that wait, counted in forms that say the same and cost differently: the planner says which is the cheapest.

Each state word is looked for by itself, as in `statements`. A form stops after `limit` jobs of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from psycopg import sql
from taskq_exporter_sql import TableName

from taskq_exporter.api import State
from taskq_exporter_postgres.options import WAITING, Table
from taskq_exporter_postgres.spread import OfQueue, one_by_one
from taskq_exporter_postgres.table import MAX_LABEL, BoundTable, seconds_between

__all__ = ["can_be_stepped", "spread_jobs", "stepped_jobs", "waiting_jobs"]

_READ = ("queue", "priority", "scheduled_at", "attempts", "created_at")
_TOLD = ("scheduled_at", "attempts", "created_at")
_NO = sql.SQL("")
#: Bytes of indexes for each job that may be counted, up to which they are read without a LIMIT. An entry with a time
#: has 32 at least: no more than three times the limit is read.
INDEX_BYTES = 100


def waiting_jobs(jobs: BoundTable, table: Table, *, limit: int, ordered: bool = False) -> sql.Composable:
    """Rows of kind jobs: waiting ones with the oldest age of those that are ready.

    In the order of an index by queue and priority, groups need no hash table, which takes a third less time; without
    such an index the order would take far more.
    """
    keys = ("queue", "priority") if ordered else ()
    return _told(table, lambda state, word: _groups(jobs, table, state, _rows(jobs, word, limit, keys)))


def can_be_stepped(jobs: BoundTable, table: Table) -> bool:
    """Whether stepped_jobs() is exact: groups are found again by equality, and ranges end at the time as it is.

    Only with a queue: where it stops at the limit, its last group is not told apart, and spread_jobs() must follow.
    """
    exact = all(jobs.is_exact(role) for role in ("queue", "priority") if jobs.has(role))
    return jobs.has("queue") and exact and jobs.has_zone("scheduled_at") and table.immediate_sentinel is None


def stepped_jobs(jobs: BoundTable, table: Table, *, limit: int, indexes: Sequence[TableName] = ()) -> sql.Composable:
    """The same, group by group through an index that goes on with the time: what is not a number is looked up.

    Each group is counted by itself, and nothing is computed of its jobs. `indexes` are those that it reads through:
    while they are small, no LIMIT is needed, which would take a seventh of the time.
    """
    keys = tuple(role for role in ("queue", "priority") if jobs.has(role))

    def one(state: State, word: str) -> sql.Composable:
        if state is State.READY:
            return _stepped(jobs, table, keys, word, limit, indexes if jobs.is_whole else ())
        return _groups(jobs, table, state, _rows(jobs, word, limit, keys))  # most run later: nothing is gained

    return _told(table, one)


def spread_jobs(jobs: BoundTable, table: Table, *, limit: int) -> sql.Composable:
    """The same, of no more than `limit` jobs for each state word, shared among the queues.

    The queues are found one after the other, each through an index that begins with the queue.
    """

    def one(state: State, word: str) -> sql.Composable:
        def select(of_queue: OfQueue, share: sql.Composable) -> sql.Composable:
            where = of_queue(jobs.column("queue"))
            return _groups(jobs, table, state, _rows(jobs, word, share, (), where=where))

        return one_by_one(jobs.name, jobs.columns["queue"], jobs.state_is(word), limit=limit, select=select)

    return _told(table, one)


# --- group by group


def _stepped(
    jobs: BoundTable, table: Table, keys: Sequence[str], word: str, limit: int, indexes: Sequence[TableName]
) -> sql.Composable:
    """The groups of one state word. Each row of the recursion has a group that is counted, and the next one."""
    since = sql.SQL("nullif({}, '-infinity')").format(_since(jobs, table))
    scheduled = jobs.column("scheduled_at")
    order = _list([*map(jobs.key, keys), scheduled])
    following = _list(sql.SQL("step.{}").format(sql.Identifier(f"next_{key}")) for key in keys)

    def rows(where: sql.Composable, *what: sql.Composable) -> sql.Composable:
        return sql.SQL("SELECT {what} FROM {table} AS taskq_jobs WHERE {is_word}{where}").format(
            what=_list(what), table=jobs.name.identifier, is_word=jobs.state_is(word), where=where
        )

    def of_group(prefix: str) -> sql.Composable:
        same = (sql.SQL(" AND {} = step.{}").format(jobs.column(key), sql.Identifier(prefix + key)) for key in keys)
        return sql.SQL("").join(same)

    def looked_up(what: sql.Composable, where: sql.Composable) -> sql.Composable:
        # no more than the group was counted to have: of the last one there may be far more
        return sql.SQL("(SELECT {} FROM ({} LIMIT step.n) AS x)").format(
            what, rows(sql.SQL("{} AND {} {}").format(of_group(""), scheduled, where), _columns(jobs, _TOLD))
        )

    def first(where: sql.Composable) -> sql.Composable:
        return sql.SQL("({} ORDER BY {} LIMIT 1)").format(rows(where, *map(jobs.key, keys), since), order)

    # what could run only after the `since` of the first one is no older
    oldest_of = sql.SQL("min({})").format(since)
    oldest = looked_up(oldest_of, sql.SQL("<= least(step.first, now())"))
    if jobs.has("created_at") and not jobs.is_given("scheduled_at"):
        oldest = sql.SQL("least({}, {})").format(oldest, looked_up(oldest_of, sql.SQL("IS NULL")))
    tried = sql.SQL("count(*) AS later, count(*) FILTER (WHERE {}) AS retry").format(_tried(jobs))
    return sql.SQL(
        "(SELECT step.queue, {priority} AS priority, false AS moved, step.n, l.later, l.retry, {oldest} AS since FROM ("
        "WITH RECURSIVE step (n, rest, {columns}, first, {next_columns}, next_first) AS ("
        "SELECT 0::bigint, {limit}::bigint, f.*, f.* FROM {first} AS f UNION ALL"
        " SELECT c.n, step.rest - c.n, {following}, step.next_first, f.* FROM step CROSS JOIN LATERAL"
        " (SELECT {count} AS n OFFSET 0) AS c LEFT JOIN LATERAL {next} AS f ON true"
        " WHERE step.rest > 0 AND step.next_queue IS NOT NULL) SELECT * FROM step WHERE n > 0"
        ") AS step CROSS JOIN LATERAL {later} AS l OFFSET 0)"
    ).format(
        priority=sql.SQL("step.priority" if "priority" in keys else "NULL::text"),
        oldest=oldest,
        columns=_list(map(sql.Identifier, keys)),
        next_columns=_list(sql.Identifier(f"next_{key}") for key in keys),
        following=following,
        limit=sql.Literal(limit),
        first=first(_NO),
        count=_counted(rows(of_group("next_"), sql.SQL("count(*)")), rows(of_group("next_")), limit, indexes),
        next=first(sql.SQL(" AND ({}) > ({})").format(_list(map(jobs.column, keys)), following)),
        later=looked_up(tried, sql.SQL("> now()")),
    )


def _counted(count: sql.Composable, rows: sql.Composable, limit: int, indexes: Sequence[TableName]) -> sql.Composable:
    """How many jobs a group has; no more than the limit where the indexes may hold many more than that."""
    limited = sql.SQL("(SELECT count(*) FROM ({} LIMIT step.rest) AS x)").format(rows)
    if not indexes:
        return limited
    sizes = (sql.SQL("pg_relation_size(to_regclass({}))").format(sql.Literal(str(index))) for index in indexes)
    return sql.SQL("CASE WHEN (SELECT {} <= {}) THEN ({}) ELSE {} END").format(
        sql.SQL(" + ").join(sizes), sql.Literal(limit * INDEX_BYTES), count, limited
    )


# --- parts


def _rows(
    jobs: BoundTable,
    word: str,
    limit: int | sql.Composable,
    order: Sequence[str],
    *,
    read: Sequence[str] = _READ,
    where: sql.Composable | None = None,
) -> sql.Composable:
    """Waiting jobs of one state word: columns as they are, so that nothing is computed of a job but in its group."""
    keys = [jobs.key(role) for role in order if jobs.has(role)]
    return sql.SQL("SELECT {columns} FROM {table} WHERE {is_word}{where}{order} LIMIT {limit}").format(
        columns=_columns(jobs, read),
        table=jobs.name.identifier,
        is_word=jobs.state_is(word),
        where=sql.SQL(" AND {}").format(where) if where is not None else _NO,
        order=sql.SQL(" ORDER BY {}").format(_list(keys)) if keys else _NO,
        limit=sql.Literal(limit) if isinstance(limit, int) else limit,
    )


def _list(parts: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)


def _columns(jobs: BoundTable, read: Sequence[str] = _READ) -> sql.Composable:
    named = dict.fromkeys(jobs.columns[role] for role in read if jobs.has(role))
    return _list(map(sql.Identifier, named))


def _since(jobs: BoundTable, table: Table) -> sql.Composable:
    scheduled = jobs.time("scheduled_at", null_where=table.immediate_sentinel)
    return sql.SQL("greatest({}, {})").format(jobs.time("created_at"), scheduled)


def _tried(jobs: BoundTable) -> sql.Composable:
    return sql.SQL("{} > 0").format(jobs.column("attempts")) if jobs.has("attempts") else sql.SQL("false")


def _groups(jobs: BoundTable, table: Table, state: State, rows: sql.Composable) -> sql.Composable:
    """By queue and priority: how many, how many of them run later, how many of those were tried, the oldest `since`."""
    scheduled = jobs.time("scheduled_at", null_where=table.immediate_sentinel)
    # a job without a time is due, unless its state says that it waits
    later = sql.SQL("{} > now()" if state is State.READY else "({} <= now()) IS NOT TRUE").format(scheduled)
    retry = later if state is State.RETRY else sql.SQL("{} AND {}").format(later, _tried(jobs))
    return sql.SQL(
        "SELECT {queue} AS queue, {priority} AS priority, {moved} AS moved, count(*) AS n,"
        " count(*) FILTER (WHERE {later}) AS later, count(*) FILTER (WHERE {retry}) AS retry,"
        " min(nullif({since}, '-infinity')) AS since FROM ({rows}) AS j GROUP BY 1, 2"
    ).format(
        queue=jobs.key("queue"),
        priority=jobs.key("priority"),
        moved=sql.Literal(state is not State.READY),
        later=later,
        retry=retry,
        since=_since(jobs, table),
        rows=rows,
    )


def _told(table: Table, groups: Callable[[State, str], sql.Composable]) -> sql.Composable:
    """Labels and states are made of groups and not of jobs, which takes half the time.

    The oldest of all is the oldest that is ready, where one is: what runs later counts from a time to come.
    """
    words: Iterable[tuple[State, str]] = ((state, word) for state in WAITING for word in table.words(state))
    return sql.SQL(
        "SELECT left(coalesce(queue::text, {default}), {length}) AS queue, state, NULL::text AS task,"
        " NULL::text AS worker, left(priority::text, {length}) AS priority, told.n,"
        " CASE WHEN state = 'ready' THEN {age} END AS oldest_seconds,"
        " CASE WHEN moved AND state = 'ready' THEN told.n END AS overdue"
        " FROM ({groups}) AS counted CROSS JOIN LATERAL"
        " (VALUES ('ready', counted.n - later), ('scheduled', later - retry), ('retry', retry)) AS told (state, n)"
        " WHERE told.n > 0"
    ).format(
        default=sql.Literal(table.default_queue),
        length=sql.Literal(MAX_LABEL),
        age=seconds_between(sql.SQL("since"), sql.SQL("now()")),
        groups=sql.SQL(" UNION ALL ").join(groups(state, word) for state, word in words),
    )
