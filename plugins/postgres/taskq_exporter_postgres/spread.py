"""Counts that stop at a limit, shared among the queues: the backlog of one hides no other."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql
from taskq_exporter_sql import TableName

__all__ = ["OfQueue", "one_by_one"]

#: The condition that a column holds the queue's name.
OfQueue = Callable[[sql.Composable], sql.Composable]


def one_by_one(
    table: TableName,
    column: str,
    where: sql.Composable,
    *,
    limit: int,
    select: Callable[[OfQueue, sql.Composable], sql.Composable],
) -> sql.Composable:
    """A SELECT for each queue, and for rows without one, as one statement.

    Args:
        table: Where the queues' names are.
        column: Its column with them. Each is found after the one before, through an index that begins with it.
        where: The condition on rows that name a queue.
        limit: Of all queues together; each has the same share of it.
        select: Makes the SELECT of one queue from the condition on its rows and its share.
    """
    return sql.SQL(
        "SELECT j.* FROM (WITH RECURSIVE names AS ("
        "(SELECT {queue} AS name FROM {table} WHERE {where} AND {queue} IS NOT NULL ORDER BY 1 LIMIT 1)"
        " UNION ALL SELECT (SELECT {queue} FROM {table} WHERE {where} AND {queue} > names.name"
        " ORDER BY 1 LIMIT 1) FROM names WHERE names.name IS NOT NULL)"
        " SELECT name, count(*) OVER () AS n FROM names WHERE name IS NOT NULL) AS taskq_names"
        " CROSS JOIN LATERAL (\n{of_one}\n) AS j UNION ALL SELECT * FROM (\n{of_none}\n) AS j"
    ).format(
        queue=sql.Identifier(column),
        table=table.identifier,
        where=where,
        of_one=select(
            sql.SQL("{} = taskq_names.name").format,
            sql.SQL("greatest({} / taskq_names.n, 1)").format(sql.Literal(limit)),
        ),
        of_none=select(sql.SQL("{} IS NULL").format, sql.Literal(limit)),
    )
