"""Tables and columns as the system catalogs describe them: what is there, of which type, and what may be read."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from psycopg import sql

from taskq_exporter_sql.client import Transaction

__all__ = ["Column", "Relation", "TableName", "describe", "marks", "parse_table_name"]

DEFAULT_SCHEMA = "public"
_PART = r'(?:"((?:[^"]|"")+)"|([^".\s]+))'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's name in its schema, exactly as the catalogs have it."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.identifier.as_string(None)

    @property
    def identifier(self) -> sql.Identifier:
        """Quoted, for a statement."""
        return sql.Identifier(self.schema, self.name)


def parse_table_name(text: str) -> TableName:
    """`jobs`, `app.jobs` or `"Odd.Schema"."jobs"`; without a schema it is in `public`. Case is kept, quoted or not.

    Raises:
        ValueError: Where it is none of these.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no table name: write jobs, schema.jobs or "Odd.Schema"."Odd jobs"')
    quoted_schema, schema, quoted_name, name = match.groups()

    def exact(quoted: str | None, plain: str | None) -> str:
        return quoted.replace('""', '"') if quoted else plain or ""

    return TableName(exact(quoted_schema, schema) or DEFAULT_SCHEMA, exact(quoted_name, name))


@dataclass(frozen=True, slots=True)
class Column:
    """A column's type as format_type() writes it (of a domain: the type under it) and whether it may be read."""

    type: str
    readable: bool
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, partitioned table, view or foreign table."""

    kind: str  # pg_class.relkind: r, p, v, m, f
    schema_usable: bool
    columns: Mapping[str, Column] = field(default_factory=dict)  # with xmin where rows have one
    hides_rows: bool = False  # row-level security applies to the role, and no policy shows it every row

    @property
    def has_xmin(self) -> bool:
        """Whether a row says which transaction wrote it."""
        return self.kind in "rp" and "xmin" in self.columns


# row-level security applies to the role, and no policy shows it every row
_HIDES = """row_security_active(c.oid) AND NOT coalesce((
    SELECT bool_or(p.polpermissive AND shows_all) AND bool_and(p.polpermissive OR shows_all)
    FROM pg_policy p, LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) = 'true' AS shows_all) s
    WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')
        AND EXISTS (SELECT FROM unnest(p.polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE'))
), false)"""
_QUERY = """
SELECT n.nspname, c.relname, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'), {hides}, a.attname,
    format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL), has_column_privilege(c.oid, a.attnum, 'SELECT'),
    a.attnotnull
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE {named} AND NOT a.attisdropped AND (a.attnum > 0 OR a.attname = 'xmin')
"""
# the rows that ALTER, GRANT and the like write again; neither VACUUM nor ANALYZE does
_MARKS = """
SELECT concat_ws(' ', c.oid, c.xmin, ARRAY(
    SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum
)), row_security_active(c.oid) FROM pg_class c WHERE c.oid = ANY (ARRAY[{tables}]) ORDER BY c.oid
"""
_HIDDEN = "SELECT ({hides})::text FROM pg_class c WHERE c.oid = ANY (ARRAY[{tables}]) ORDER BY c.oid"
# the name by itself, for the index on it: the exporter's transactions have no bitmap scans, which an OR needs
_NAMED = """
c.relname = ANY (ARRAY[{tables}]) AND (n.nspname, c.relname) IN ({names}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""


async def describe(transaction: Transaction, names: Iterable[TableName]) -> dict[TableName, Relation]:
    """Those of the tables that exist. Everybody may read the catalogs. Raises AdapterError."""
    query = sql.SQL(_QUERY).format(hides=sql.SQL(_HIDES), named=_named(names))
    rows = await transaction.fetch("describe", query, doing="reading the catalogs")
    found: dict[TableName, Relation] = {}
    columns: dict[TableName, dict[str, Column]] = {}
    for schema, table, kind, usable, hides, column, type_, readable, not_null in rows:
        name = TableName(schema, table)
        of_table = columns.setdefault(name, {})
        found.setdefault(name, Relation(kind, usable, of_table, hides))
        of_table[column] = Column(type_, readable, not_null)
    return found


async def marks(transaction: Transaction, names: Iterable[TableName]) -> tuple[str, ...]:
    """What is another as soon as describe() would say something else, at a quarter of its cost.

    But for a right that was taken away: a statement fails by it, this one where it is that on the schema. Raises
    AdapterError.
    """
    asked, hidden = _marking(tuple(names))
    rows = await transaction.fetch("marks", asked, doing="reading the catalogs", again=True)
    found = [mark for mark, _ in rows]
    if any(secured for _, secured in rows):
        found += [row[0] for row in await transaction.fetch("hidden", hidden, doing="reading the catalogs", again=True)]
    return tuple(found)


@functools.lru_cache(maxsize=256)
def _marking(names: tuple[TableName, ...]) -> tuple[sql.SQL, sql.SQL]:
    tables = sql.SQL(", ").join(sql.SQL("to_regclass({})").format(sql.Literal(str(name))) for name in names)
    asked = sql.SQL(_MARKS).format(tables=tables), sql.SQL(_HIDDEN).format(hides=sql.SQL(_HIDES), tables=tables)
    return sql.SQL(asked[0].as_string(None)), sql.SQL(asked[1].as_string(None))


def _named(names: Iterable[TableName]) -> sql.Composable:
    wanted = list(names)
    return sql.SQL(_NAMED).format(
        tables=sql.SQL(", ").join(sql.Literal(name.name) for name in wanted),
        names=sql.SQL(", ").join(
            sql.SQL("({}, {})").format(sql.Literal(name.schema), sql.Literal(name.name)) for name in wanted
        ),
    )
