"""The plan guard: a statement that would read a large table from end to end is not sent.

What is finished stays in the table: without the right index a statement that is quick today costs seconds in a year,
on somebody else's server. The planner says so beforehand, in less than a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from taskq_exporter_sql.catalog import TableName
from taskq_exporter_sql.client import Transaction

__all__ = ["LARGE_PAGES", "FullRead", "Plan", "full_reads", "plan_of"]

#: A table of more pages than this is large: 100 MB with pages of 8 kB.
LARGE_PAGES = 12_800
_EXPLAIN = sql.SQL("EXPLAIN (FORMAT JSON, VERBOSE) ")  # VERBOSE: with the schemas of the tables
# the real size: relpages is 0 until the first vacuum. Whole indexes, not those of some rows; of an expression no name
_PAGES = """
SELECT n.nspname, t.relname, c.relname, pg_relation_size(t.oid) / current_setting('block_size')::int,
    CASE WHEN i.indkey[0] <> 0 THEN pg_get_indexdef(c.oid, 1, true) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
WHERE (n.nspname, c.relname) IN ({names}) AND i.indpred IS NULL
"""
_INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
_SORTS = ("Sort", "Incremental Sort")
#: What bounds nothing: words in quotes, which may look like a column, and that a column is not NULL.
_UNBOUND = re.compile(r"'(?:[^']|'')*'|\([^()]* IS NOT NULL\)")


@dataclass(frozen=True, slots=True)
class FullRead:
    """A table that a statement would read from end to end."""

    table: TableName
    pages: int

    def __str__(self) -> str:
        return f"{self.table} ({self.pages * 8 / 1024:.0f} MB)"


@dataclass(frozen=True, slots=True)
class _Scan:
    schema: str
    name: str  # of a table, or of an index
    share: float
    condition: str = ""  # on the index
    filters: bool = False


class Plan:
    """What the server would do for a statement now. Verified with the plans of PostgreSQL 15 and 18."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        #: In the planner's unit.
        self.cost = float(root["Total Cost"])
        #: Whether no index has the order that a LIMIT asks for, so that all is read before it stops.
        self.sorts = _sorts(root, limited=False)
        #: How many rows the planner expects.
        self.rows = float(root["Plan Rows"])
        self._scans = list(_scans(root, 1.0, ""))
        #: Whether rows are read that are none of what is asked for.
        self.filters = any(scan.filters for scan in self._scans)
        #: What it reads through.
        self.indexes = sorted({TableName(scan.schema, scan.name) for scan in self._scans}, key=str)

    async def full_reads(self, transaction: Transaction) -> list[FullRead]:
        """The large tables that it would read from end to end. Raises AdapterError.

        That is a sequential scan, or one through a whole index: without a condition, or with one on later columns
        alone. One of an index under a LIMIT counts by the share that the planner expects to be read.
        """
        if not self._scans:
            return []
        names = sql.SQL(", ").join(
            sql.SQL("({}, {})").format(sql.Literal(schema), sql.Literal(name))
            for schema, name in sorted({(scan.schema, scan.name) for scan in self._scans})
        )
        rows = await transaction.fetch("sizes", sql.SQL(_PAGES).format(names=names), doing="reading sizes of tables")
        found: dict[TableName, int] = {}
        for schema, table, name, pages, first in rows:
            scans = [scan for scan in self._scans if (scan.schema, scan.name) == (schema, name)]
            share = max((scan.share for scan in scans if not _bounded(scan.condition, first)), default=0.0)
            if pages * share > LARGE_PAGES:
                found[TableName(schema, table)] = pages
        return [FullRead(table, pages) for table, pages in found.items()]


async def plan_of(transaction: Transaction, query: sql.Composable, *, doing: str) -> Plan:
    """The plan that the server has for a statement now; `doing` is for the error message.

    Raises AdapterError: as the statement itself would, before it reads anything.
    """
    ((plans,),) = await transaction.fetch("explain", sql.Composed([_EXPLAIN, query]), doing=doing)
    return Plan(plans[0]["Plan"])


async def full_reads(transaction: Transaction, query: sql.Composable, *, doing: str) -> Sequence[FullRead]:
    """The large tables that a statement would read from end to end. Raises AdapterError as plan_of()."""
    return await (await plan_of(transaction, query, doing=doing)).full_reads(transaction)


def _sorts(node: Mapping[str, Any], *, limited: bool) -> bool:
    kind = node["Node Type"]
    limited = limited or kind == "Limit"
    return (limited and kind in _SORTS) or any(_sorts(child, limited=limited) for child in node.get("Plans", ()))


def _scans(node: Mapping[str, Any], share: float, schema: str) -> Iterator[_Scan]:
    """The tables and indexes that a plan reads, and the share of each where it reads it as a whole."""
    kind, schema = node["Node Type"], node.get("Schema", schema)  # a bitmap's index says no schema of its own
    if kind == "Seq Scan":
        # Before PostgreSQL 18 the price of a scan that is switched off hid a LIMIT; what it seeks may be the youngest.
        yield _Scan(schema, node["Relation Name"], 1.0, filters="Filter" in node)
    elif kind in _INDEX_SCANS:
        yield _Scan(schema, node["Index Name"], share, node.get("Index Cond", ""), "Filter" in node)
    for child in node.get("Plans", ()):
        part = node["Total Cost"] / child["Total Cost"] if kind == "Limit" and child["Total Cost"] else 1.0
        yield from _scans(child, share * min(part, 1.0), schema)


def _bounded(condition: str, first: str | None) -> bool:
    """Whether a condition is on the index's first column, so that a part of the index is read."""
    said = _UNBOUND.sub("", condition)
    if first is None:  # an expression: the planner writes it in other words
        return bool(said.strip("() AND"))
    return re.search(rf'(?<![\w"$]){re.escape(first)}(?![\w"$])', said) is not None
