"""The plan guard: a statement that would read a large table from end to end is not sent.

What is finished stays in the table: without the right index a statement that is quick today costs seconds in a year,
on somebody else's server. The planner says so beforehand, in less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from taskq_exporter_sql.catalog import TableName
from taskq_exporter_sql.client import Transaction

__all__ = ["LARGE_PAGES", "FullRead", "full_reads", "needs_sort"]

#: A table of more pages than this is large: 100 MB with pages of 8 kB.
LARGE_PAGES = 12_800
_EXPLAIN = sql.SQL("EXPLAIN (FORMAT JSON, VERBOSE) ")  # VERBOSE: with the schemas of the tables
# the real size: relpages is 0 until the first vacuum. Whole indexes, not those of some rows.
_PAGES = """
SELECT n.nspname, t.relname, c.relname, pg_relation_size(t.oid) / current_setting('block_size')::int
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
WHERE (n.nspname, c.relname) IN ({names}) AND i.indpred IS NULL
"""
_INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")


@dataclass(frozen=True, slots=True)
class FullRead:
    """A table that a statement would read from end to end."""

    table: TableName
    pages: int

    def __str__(self) -> str:
        return f"{self.table} ({self.pages * 8 / 1024:.0f} MB)"


async def full_reads(transaction: Transaction, query: sql.Composable, *, doing: str) -> list[FullRead]:
    """The large tables that a statement would read from end to end, by the plan that the server has for it now.

    That is a sequential scan, or one through a whole index. Under a LIMIT it counts by the share that the planner
    expects to be read. Verified with the plans of PostgreSQL 15. `doing` is for the error message. Raises AdapterError:
    as the statement itself would, before it reads anything.
    """
    ((plans,),) = await transaction.fetch("explain", sql.Composed([_EXPLAIN, query]), doing=doing)
    shares: dict[tuple[str, str], float] = {}
    for scanned, share in _scans(plans[0]["Plan"], 1.0, ""):
        shares[scanned] = max(share, shares.get(scanned, 0.0))
    if not shares:
        return []
    names = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(schema), sql.Literal(name)) for schema, name in shares
    )
    rows = await transaction.fetch("sizes", sql.SQL(_PAGES).format(names=names), doing="reading sizes of tables")
    found = {
        TableName(schema, table): pages
        for schema, table, scanned, pages in rows
        if pages * shares[schema, scanned] > LARGE_PAGES
    }
    return [FullRead(table, pages) for table, pages in found.items()]


async def needs_sort(transaction: Transaction, query: sql.Composable, *, doing: str) -> bool:
    """Whether no index has the order that a statement asks for. Raises AdapterError as full_reads()."""
    ((plans,),) = await transaction.fetch("explain", sql.Composed([_EXPLAIN, query]), doing=doing)
    return not _kinds(plans[0]["Plan"]).isdisjoint({"Sort", "Incremental Sort"})


def _kinds(node: Mapping[str, Any]) -> set[str]:
    return {node["Node Type"]}.union(*map(_kinds, node.get("Plans", ())))


def _scans(node: Mapping[str, Any], share: float, schema: str) -> Iterator[tuple[tuple[str, str], float]]:
    """Schema and name of the tables and indexes that a plan reads as a whole, and the share of each that it reads."""
    kind, schema = node["Node Type"], node.get("Schema", schema)  # a bitmap's index says no schema of its own
    if kind == "Seq Scan":
        yield (schema, node["Relation Name"]), share
    elif kind in _INDEX_SCANS and "Index Cond" not in node:
        yield (schema, node["Index Name"]), share
    for child in node.get("Plans", ()):
        part = node["Total Cost"] / child["Total Cost"] if kind == "Limit" and child["Total Cost"] else 1.0
        yield from _scans(child, share * min(part, 1.0), schema)
