"""Jobs that wait, counted in forms that say the same and cost differently: the planner says which is the cheapest.

Each state word is looked for by itself, as in `statements`. A form stops after `limit` jobs of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from psycopg import sql

from taskq_exporter.api import State
from taskq_exporter_postgres.options import WAITING, Table
from taskq_exporter_postgres.spread import OfQueue, one_by_one
from taskq_exporter_postgres.table import MAX_LABEL, BoundTable, seconds_between

__all__ = ["can_be_looked_up", "looked_up_jobs", "spread_jobs", "waiting_jobs"]

_READ = ("queue", "priority", "scheduled_at", "attempts", "created_at")
_NO = sql.SQL("")


def waiting_jobs(jobs: BoundTable, table: Table, *, limit: int, ordered: bool = False) -> sql.Composable:
    """Rows of kind jobs: waiting ones with the oldest age of those that are ready.

    In the order of an index by queue and priority, groups need no hash table, which takes a third less time; without
    such an index the order would take far more.
    """
    keys = ("queue", "priority") if ordered else ()
    return _told(table, lambda state, word: _groups(jobs, table, state, _rows(jobs, word, limit, keys)))


def can_be_looked_up(jobs: BoundTable, table: Table) -> bool:
    """Whether looked_up_jobs() is exact: groups are found again by equality, and ranges end at the time as it is.

    Only with a queue: where it stops at the limit, its last group is not told apart, and spread_jobs() must follow.
    """
    exact = all(jobs.is_exact(role) for role in ("queue", "priority") if jobs.has(role))
    return jobs.has("queue") and exact and jobs.has_zone("scheduled_at") and table.immediate_sentinel is None


def looked_up_jobs(jobs: BoundTable, table: Table, *, limit: int) -> sql.Composable:
    """The same; only the count reads all jobs of a group, and an index that goes on with the time says the rest."""
    keys = tuple(role for role in ("queue", "priority") if jobs.has(role))

    def one(state: State, word: str) -> sql.Composable:
        if state is not State.READY:  # most of them run later: nothing is gained
            return _groups(jobs, table, state, _rows(jobs, word, limit, keys))
        scheduled = jobs.column("scheduled_at")
        same = sql.SQL(" AND ").join(
            [jobs.state_is(word), *(sql.SQL("{} = g.{}").format(jobs.column(r), sql.Identifier(r)) for r in keys)]
        )

        def rows(condition: str, *parts: sql.Composable) -> sql.Composable:
            # no more than the group was counted to have: of the last one there may be far more
            return sql.SQL("(SELECT {columns} FROM {table} WHERE {same} AND {condition} LIMIT g.n) AS x").format(
                columns=_columns(jobs),
                table=jobs.name.identifier,
                same=same,
                condition=sql.SQL(condition).format(scheduled, *parts),
            )

        since = sql.SQL("nullif({}, '-infinity')").format(_since(jobs, table))
        first = sql.SQL("(SELECT {since} FROM {rows} WHERE {since} IS NOT NULL LIMIT 1)").format(
            since=since, rows=rows("{0} <= now() ORDER BY {0}")
        )
        # what could run only after the `since` of the first one is no older
        oldest = sql.SQL("(SELECT min({}) FROM {})").format(since, rows("{0} <= {1} ORDER BY {0}", first))
        if jobs.has("created_at"):
            oldest = sql.SQL("least({}, (SELECT min({}) FROM {}))").format(oldest, since, rows("{0} IS NULL"))
        return sql.SQL(
            "SELECT g.queue, g.priority, false AS moved, g.n, l.later, l.retry, {oldest} AS since FROM"
            " (SELECT {queue} AS queue, {priority} AS priority, count(*) AS n FROM ({all}) AS j GROUP BY 1, 2) AS g"
            " CROSS JOIN LATERAL (SELECT count(*) AS later, count(*) FILTER (WHERE {tried}) AS retry FROM {later}) AS l"
        ).format(
            oldest=oldest,
            queue=jobs.key("queue"),
            priority=jobs.key("priority"),
            all=_rows(jobs, word, limit, keys, read=keys),
            tried=_tried(jobs),
            later=rows("{0} > now()"),
        )

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
        order=sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(keys)) if keys else _NO,
        limit=sql.Literal(limit) if isinstance(limit, int) else limit,
    )


def _columns(jobs: BoundTable, read: Sequence[str] = _READ) -> sql.Composable:
    named = dict.fromkeys(jobs.columns[role] for role in read if jobs.has(role))
    return sql.SQL(", ").join(map(sql.Identifier, named))


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
