"""TaskFlow's tables as the server has them: whose they are, what may be read, and what plans the statements have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql
from taskq_exporter_sql import (
    Relation,
    SqlClient,
    TableName,
    Transaction,
    describe,
    full_reads,
    grant_select,
    hidden_rows,
)

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.statements import READS, TABLES, index_advice

__all__ = ["OF_ONE", "Layout", "guard", "look"]

#: Failures of one statement that do not concern the others.
OF_ONE = frozenset({Reason.SCHEMA, Reason.PERMISSION, Reason.COST, Reason.UNSUPPORTED})
#: Seconds after which catalogs and plans are looked at again, though nothing failed.
LOOK_AGAIN = 3600.0
_REMEMBERED = "layout"
_INDEXED = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE n.nspname = {schema} AND c.relname = 'tasks' AND a.attname = 'updated_at' AND i.indisvalid
        AND i.indpred IS NULL
)
"""


@dataclass(slots=True)
class Layout:
    """What is there."""

    by_update: bool  # an index finds tasks by updated_at
    refused: dict[str, AdapterError] = field(default_factory=dict)  # statements that are not sent
    looked_at: float = 0.0  # the loop's time
    guarded: bool = False


async def look(client: SqlClient, transaction: Transaction, options: TaskflowOptions) -> Layout:
    """The tables, looked at when first asked, hourly, and after errors.

    Raises:
        AdapterError: schema, where `tasks` is missing or not what TaskFlow's models make; permission.
    """
    now = asyncio.get_running_loop().time()
    known: Layout | None = client.memory.get(_REMEMBERED)
    if known is not None and now - known.looked_at < LOOK_AGAIN:
        return known
    names = {table: TableName(options.db_schema, table) for table in READS}
    found = await describe(transaction, names.values())
    _check("tasks", names["tasks"], found)
    query = sql.SQL(_INDEXED).format(schema=sql.Literal(options.db_schema))
    ((by_update,),) = await transaction.fetch("indexes", query, doing="reading the catalogs")
    layout = Layout(by_update, looked_at=now)
    for statement, table in TABLES.items():
        try:
            _check(table, names[table], found)
        except AdapterError as error:
            layout.refused[statement] = error
    client.memory[_REMEMBERED] = layout
    return layout


def _check(table: str, name: TableName, found: Mapping[TableName, Relation]) -> None:
    relation = found.get(name)
    if relation is None:
        raise AdapterError(Reason.SCHEMA, f"there is no table {name}: TaskFlow's init_db.py makes it")
    wanted = READS[table]
    missing = [column for column in wanted if column not in relation.columns]
    if table == "tasks" and "task_name" in missing and "name" in relation.columns:
        raise AdapterError(
            Reason.SCHEMA,
            f"{name} has the column name and no task_name: TaskFlow's Alembic migrations made it. TaskFlow itself runs"
            " on the tables that its init_db.py makes, and only these are known",
        )
    if missing:
        raise AdapterError(Reason.SCHEMA, f"{name} has no column {', '.join(missing)}: no TaskFlow that is known")
    if not relation.schema_usable:
        schema = sql.Identifier(name.schema).as_string(None)
        raise AdapterError(Reason.PERMISSION, f"run: GRANT USAGE ON SCHEMA {schema} TO taskq_exporter;")
    if unreadable := [column for column in wanted if not relation.columns[column].readable]:
        raise AdapterError(Reason.PERMISSION, f"run: {grant_select(name, unreadable)}")
    if relation.hides_rows:
        raise hidden_rows(name)


async def guard(
    transaction: Transaction, layout: Layout, options: TaskflowOptions, asked: Mapping[str, sql.Composable]
) -> None:
    """Refuse statements that have no plan, or one that reads a large table from end to end. Raises AdapterError."""
    if layout.guarded or options.allow_seq_scan:
        return
    for name, query in asked.items():
        if name in layout.refused:
            continue
        try:
            async with transaction.savepoint():
                reads = await full_reads(transaction, query, doing=f"statement {name}")
        except AdapterError as error:
            if error.reason not in OF_ONE:
                raise
            layout.refused[name] = error
            continue
        if reads:
            layout.refused[name] = AdapterError(
                Reason.COST,
                f"statement {name} would read all of {', '.join(map(str, reads))}: create the index:"
                f" {index_advice(options, name)} (or set allow_seq_scan: true)",
            )
    layout.guarded = True
