"""A preset or the user's own SQL bound to what the catalogs say is there: variant, tables, columns, rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from psycopg import sql
from taskq_exporter_sql import Relation, TableName, Transaction, describe, grant_select, hidden_rows

from taskq_exporter.api import AdapterError, Problem, Reason
from taskq_exporter_postgres.bound import OF_ONE, Binding, BoundStatement, Query
from taskq_exporter_postgres.columns import projected
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.placeholders import Blanks, above_of, render
from taskq_exporter_postgres.preset import Ended, Jobs, Preset, Spread, Statement, Statements, Variant
from taskq_exporter_postgres.spread import one_by_one

__all__ = ["bind_statements", "bind_texts", "tables_like"]

_Found = Mapping[TableName, Relation]
_LIKE = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
    AND c.relname LIKE ANY (ARRAY[{patterns}])
"""
MAX_EACH = 1000  # tables that one pattern may stand for


async def bind_statements(transaction: Transaction, options: PostgresOptions, kinds: Sequence[str]) -> Binding:
    """The preset's statements of these kinds, with the user's own, as they fit the database.

    Raises:
        AdapterError: schema, where no variant fits: it names the missing columns of the nearest; permission.
    """
    preset, schema = options.preset_model, options.schema_name
    variants = preset.resolved if preset else ()
    patterns = options.patterns
    there = await tables_like(transaction, schema, patterns)
    named = {table for variant in variants for table in variant.reads if "*" not in table}
    names = [TableName(schema, name) for name in sorted({*named, *there})]
    found = await describe(transaction, names) if names else {}
    variant = _fitting(preset, schema, found) if preset else Variant()
    members = {pattern: _members(variant, schema, pattern, there, found) for pattern in patterns}
    binding = Binding(
        schema=schema,
        statements=[],
        default_queue=options.preset or "sql",
    )
    read = [t for table in variant.reads for t in ([table] if "*" not in table else _tables(table, members[table]))]
    for table in read:
        if found[TableName(schema, table)].hides_rows:
            raise hidden_rows(TableName(schema, table))
    rights = _rights(variant, schema, found, members)
    binding.unreadable = frozenset(rights) - {""}
    if any(set(names) - binding.unreadable for names in members.values()):  # those of some queues: the others go on
        members = {pattern: [n for n in names if n not in binding.unreadable] for pattern, names in members.items()}
        if binding.unreadable and "jobs" in kinds:
            message = _joined(rights[each] for each in sorted(binding.unreadable))
            binding.problems.append(Problem(reason=Reason.PERMISSION, part="queues", message=message))
    missing = _joined(rights.values())
    statements = variant.statements
    if options.sql:
        statements = options.sql.over(statements)
    binding.mode, binding.followed = statements.mode, statements
    await bind_texts(transaction, binding, statements, kinds, options=options, members=members, missing=missing)
    return binding


async def bind_texts(
    transaction: Transaction,
    binding: Binding,
    statements: Statements,
    kinds: Sequence[str],
    *,
    options: PostgresOptions,
    members: Mapping[str, Sequence[str]],
    missing: str,
) -> None:
    """Add statements that are given as text: each is asked for its columns. Raises AdapterError of the server."""
    for kind in kinds:
        for name, one in statements.of(kind).items():
            texts = _each(one, members)
            probe = Blanks(schema=binding.schema, limit=options.max_count + 1)
            text = partial(_union, one, texts)
            bound = _bound(kind, name, one, text, binding.schema)
            if not texts:  # a pattern that no table fits: known to be empty
                continue
            binding.statements = [*binding.statements, bound]
            try:
                async with transaction.savepoint():
                    given = await transaction.columns(bound.query(probe), doing=bound.doing)
                    query = partial(_projected, kind, text, given, bound.doing)
                    finished = _bound(kind, name, one, query, binding.schema, given)
                    if one.spread:
                        spread = partial(_spread, one.spread, query)
                        finished = replace(finished, spread=spread)
                    finished.query(probe)  # columns that do not fit
            except AdapterError as error:
                if error.reason not in OF_ONE:
                    raise
                if error.reason is Reason.PERMISSION and missing:
                    error = AdapterError(error.reason, f"{bound.doing}: {missing}")
                binding.leave_out(bound, error)
            else:
                binding.statements = [*binding.statements[:-1], finished]


def _bound(
    kind: str,
    name: str,
    one: Statement,
    query: Callable[[Blanks], sql.Composable],
    schema: str,
    given: Iterable[str] = (),
) -> BoundStatement:
    columns = set(given)
    if isinstance(one, Jobs) and len(one.states) == 1:
        columns.add("state")
    return BoundStatement(
        kind=kind,
        name=name,
        query=query,
        columns=frozenset(columns),
        states=one.states if isinstance(one, Jobs) else (),
        outcomes=one.outcomes if isinstance(one, Ended) else (),
        partial=isinstance(one, Ended) and one.partial,
        kept=partial(render, one.kept.sql) if isinstance(one, Ended) and one.kept else None,
        kept_otherwise=one.kept.otherwise if isinstance(one, Ended) and one.kept else "",
        limited="{limit}" in one.sql,
        above=frozenset(above_of(one.sql)),
        index=_advice(one.index, schema),
        spread_index=_advice(one.spread.index, schema) if one.spread else "",
        optional=one.optional,
        each=bool(one.each),
    )


def _advice(index: str | None, schema: str) -> str:
    return render(index, Blanks(schema=schema, limit=0)).as_string(None) if index else ""


def _each(one: Statement, members: Mapping[str, Sequence[str]]) -> Sequence[str]:
    return members[one.each] if one.each else ("",)


def _union(one: Statement, each: Sequence[str], blanks: Blanks) -> sql.Composable:
    texts = [render(one.sql, replace(blanks, each=name)) for name in each]
    if len(texts) == 1:
        return texts[0]
    return sql.SQL(" UNION ALL ").join(sql.SQL("SELECT * FROM (\n{}\n) AS e").format(text) for text in texts)


def _projected(kind: str, text: Query, given: Sequence[str], what: str, blanks: Blanks) -> sql.Composable:
    return projected(kind, text(blanks), given, what)


def _spread(spread: Spread, query: Query, blanks: Blanks) -> sql.Composable:
    return one_by_one(
        TableName(blanks.schema, spread.table),
        spread.column,
        render(spread.where, blanks),
        limit=blanks.limit,
        select=lambda of_queue, share: query(replace(blanks, of_queue=of_queue, share=share)),
    )


# --- what is there


async def tables_like(transaction: Transaction, schema: str, patterns: Sequence[str]) -> list[str]:
    """The tables of the schema that these patterns stand for, in order. Raises AdapterError."""
    if not patterns:
        return []
    likes = [
        pattern.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%").replace("*", "%") for pattern in patterns
    ]
    query = sql.SQL(_LIKE).format(
        schema=sql.Literal(schema), patterns=sql.SQL(", ").join(sql.Literal(like) for like in likes)
    )
    return sorted(row[0] for row in await transaction.fetch("tables", query, doing="reading the catalogs"))


def _tables(pattern: str, each: Iterable[str]) -> list[str]:
    return [pattern.replace("*", name) for name in each]


def _members(variant: Variant, schema: str, pattern: str, there: Sequence[str], found: _Found) -> list[str]:
    """What the * of a pattern stands for: of the tables that have the columns, and so are none of somebody else's."""
    before, after = pattern.split("*")
    wanted = set(variant.reads.get(pattern, ()))
    names = []
    for table in there:
        fits = table.startswith(before) and table.endswith(after) and len(table) > len(before) + len(after)
        relation = found.get(TableName(schema, table))
        if fits and relation and wanted <= relation.columns.keys():
            names.append(table[len(before) : len(table) - len(after)])
    return names[:MAX_EACH]


def _fitting(preset: Preset, schema: str, found: _Found) -> Variant:
    """The first variant whose tables and columns are there. Raises AdapterError(schema)."""
    lacks = [(_lacking(variant, schema, found), variant) for variant in preset.resolved]
    for lack, variant in lacks:
        if not lack:
            return variant
    lack, variant = min(lacks, key=lambda of: sum(map(len, of[0].values())))
    verified = f"{preset.name} is known in {', '.join(filter(None, (v.versions for _, v in lacks))) or 'one form'}"
    where = f"{verified}, verified with {', '.join(preset.verified)}"
    if not found:
        tables = ", ".join(str(table) for table in lack)
        raise AdapterError(
            Reason.SCHEMA, f"there is no table {tables}: set schema: to where {preset.name} keeps its tables; {where}"
        )
    said = [
        f"there is no table {table}" if table not in found else f"table {table} has no column {', '.join(columns)}"
        for table, columns in lack.items()
    ]
    raise AdapterError(Reason.SCHEMA, f"{'; '.join(said)}; {where}")


def _lacking(variant: Variant, schema: str, found: _Found) -> dict[TableName, list[str]]:
    """The columns that are not there, by table."""
    lacking = {}
    for table, columns in variant.reads.items():
        name = TableName(schema, table)
        there = found[name].columns if name in found else {}
        missing = [column for column in columns if column not in there]
        if missing and "*" not in table:
            lacking[name] = missing
    return lacking


def _rights(variant: Variant, schema: str, found: _Found, members: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What to run so that the variant's columns can be read: by what the * of their table stands for, "" for others."""
    run: dict[str, list[str]] = {}
    for pattern, columns in variant.reads.items():
        for each in members[pattern] if "*" in pattern else ("",):
            name = TableName(schema, pattern.replace("*", each))
            relation = found[name]
            if not relation.schema_usable:
                usage = f"GRANT USAGE ON SCHEMA {sql.Identifier(schema).as_string(None)} TO taskq_exporter;"
                run.setdefault("", []).append(usage)
            if unreadable := [column for column in columns if not relation.columns[column].readable]:
                run.setdefault(each, []).append(grant_select(name, unreadable))
    return run


def _joined(run: Iterable[Sequence[str]]) -> str:
    statements = dict.fromkeys(statement for of_one in run for statement in of_one)
    return f"run: {' '.join(statements)}" if statements else ""
