"""The rights that the exporter's user needs, as SQL to run once, as the tables' owner or a superuser."""

from __future__ import annotations

import re
from collections.abc import Mapping

from psycopg import sql
from taskq_exporter_sql import ROLE, SETTINGS, STATISTICS, TableName, grant_select, grant_usage, parse_table_name

from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.preset import Statements, Variant

__all__ = ["grants"]

#: A table as statements name one: with its schema, for search_path is pg_catalog.
_FROM = re.compile(r'\b(?:FROM|JOIN)\s+((?:"(?:[^"]|"")+"|\w+)\.(?:"(?:[^"]|"")+"|\w+))(?!\s*\()', re.IGNORECASE)
#: Of tables that depend on the version or on the queues that there are: those that are there.
_THERE = """\
DO $$ DECLARE t record; BEGIN
    FOR t IN SELECT c.oid::regclass AS name, string_agg(quote_ident(a.attname), ', ') AS columns
        FROM (VALUES {rows}) AS w (pattern, attname)
        JOIN pg_catalog.pg_class c ON c.relname LIKE w.pattern AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped
        GROUP BY c.oid
    LOOP
        EXECUTE pg_catalog.format('GRANT SELECT (%s) ON %s TO taskq_exporter', t.columns, t.name);
    END LOOP;
END $$;"""


def grants(options: PostgresOptions) -> str:
    """SQL that makes the role and lets it read the columns that it needs, and nothing else. May be run again."""
    lines = [ROLE]
    if options.table:
        lines += _of_table(options)
    if preset := options.preset_model:
        lines += _of_preset(preset.resolved, options.schema_name)
    if options.sql:
        lines += _of_sql(options.sql, options.schema_name)
    return "\n".join([*lines, STATISTICS, SETTINGS]) + "\n"


def _of_table(options: PostgresOptions) -> list[str]:
    table, workers = options.table, options.workers
    if table is None:
        return []
    names = [table.table_name, *([workers.table_name] if workers else [])]
    lines = [grant_usage(schema) for schema in dict.fromkeys(name.schema for name in names)]
    columns = list(dict.fromkeys(table.columns.given().values()))
    if options.outcomes and options.finished.mode == "xid":
        columns.append("xmin")  # which transaction wrote a row: no content, but a right of its own
    lines.append(grant_select(table.table_name, columns))
    if workers:
        lines.append(grant_select(workers.table_name, list(dict.fromkeys(workers.columns.given().values()))))
    return lines


def _of_sql(statements: Statements, schema: str) -> list[str]:
    """What the text of the user's statements tells: their tables. Columns are the user's to fill in."""
    read: dict[TableName, dict[str, None]] = {}
    for kind in Statements.model_fields:
        for name, one in statements.of(kind).items():
            text = one.sql.replace("{schema}", sql.Identifier(schema).as_string(None))
            for match in _FROM.finditer(text):
                table = parse_table_name(match[1])
                if table.schema not in ("pg_catalog", "information_schema"):  # everybody may read them
                    read.setdefault(table, {})[f"{kind}.{name}"] = None
    lines = [
        "-- Of the statements in sql: the tables that their text names are known. Fill in the columns that each reads,",
        "-- with xmin for {window:...}, and run it:",
    ]
    lines += [f"-- {grant_usage(schema)}" for schema in sorted({table.schema for table in read})]
    lines += [
        f"-- GRANT SELECT (...) ON {table} TO taskq_exporter;  -- {', '.join(readers)}"
        for table, readers in sorted(read.items(), key=str)
    ]
    return lines


def _of_preset(variants: tuple[Variant, ...], schema: str) -> list[str]:
    """Plain GRANTs for what every variant reads, and one block for what depends on what is there."""
    lines = [grant_usage(schema)]
    reads: dict[str, list[str]] = {}
    for variant in variants:
        for table, wanted in variant.reads.items():
            known = reads.setdefault(table, [])
            known += (column for column in wanted if column not in known)
    depends: dict[str, list[str]] = {}
    for table, columns in reads.items():
        always = [c for c in columns if all(c in variant.reads.get(table, ()) for variant in variants)]
        if "*" in table:
            always = []
        if always:
            lines.append(grant_select(TableName(schema, table), always))
        if rest := [column for column in columns if column not in always]:
            depends[table] = rest
    if depends:
        lines.append(_where_there(depends, schema))
    return lines


def _where_there(reads: Mapping[str, list[str]], schema: str) -> str:
    rows = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(table.replace("_", "\\_").replace("*", "%")), sql.Literal(column))
        for table, columns in reads.items()
        for column in columns
    )
    return sql.SQL(_THERE).format(rows=rows, schema=sql.Literal(schema)).as_string(None)
