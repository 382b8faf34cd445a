"""Sources without a configuration: the presets whose tables are in the database that DATABASE_URL names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg import sql
from taskq_exporter_sql import SqlClient, Transaction, read_only

from taskq_exporter.api import Detected
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.preset import Preset, load_preset, preset_names

__all__ = ["VARIABLE", "detect"]

VARIABLE = "DATABASE_URL"
TIMEOUT = 5.0  # seconds
_TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
WHERE c.relname IN ({names}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY 1, 2
"""
_There = Mapping[str, Mapping[str, set[str]]]  # columns by schema and table


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """A source for each preset whose tables are there. Raises AdapterError where the server cannot be asked."""
    url = env.get(VARIABLE, "")
    if url.partition("://")[0].split("+")[0] not in PostgresOptions.schemes:
        return []  # nothing, or another database
    presets = [load_preset(name) for name in preset_names()]
    client = SqlClient(url, timeout=TIMEOUT)
    try:
        async with read_only(client, timeout=TIMEOUT) as transaction:
            there = await _tables(transaction, presets)
    finally:
        client.drop()
    return [
        Detected(name=name, url=url, options=options) for preset in presets for name, options in _sources(preset, there)
    ]


def _sources(preset: Preset, there: _There) -> Iterable[tuple[str, dict[str, str]]]:
    """Name and options of a source for each schema that the preset's tables are in; of the usual one alone if it is.

    Elsewhere a table counts with its columns: `meta` or `jobs` may be anybody's.
    """
    wanted = [{t: set(c) for t, c in variant.reads.items() if "*" not in t} for variant in preset.resolved]
    if any(want and want.keys() <= there.get(preset.db_schema, {}).keys() for want in wanted):
        return [(preset.name, {"preset": preset.name})]
    schemas = [
        schema
        for schema, tables in sorted(there.items())
        if any(want and all(columns <= tables.get(t, set()) for t, columns in want.items()) for want in wanted)
    ]
    names = [preset.name if len(schemas) == 1 else f"{preset.name}/{schema}" for schema in schemas]
    return [(name, {"preset": preset.name, "schema": s}) for name, s in zip(names, schemas, strict=True)]


async def _tables(transaction: Transaction, presets: Iterable[Preset]) -> _There:
    """Which of the tables that presets read are there."""
    wanted = {t for preset in presets for variant in preset.resolved for t in variant.reads if "*" not in t}
    names = sql.SQL(", ").join(sql.Literal(name) for name in sorted(wanted))
    rows = await transaction.fetch("tables", sql.SQL(_TABLES).format(names=names), doing="reading the catalogs")
    there: dict[str, dict[str, set[str]]] = {}
    for schema, table, columns in rows:
        there.setdefault(schema, {})[table] = set(columns)
    return there
