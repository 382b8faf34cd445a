"""The rights that the exporter's user needs, as SQL to run once, as the tables' owner or a superuser."""

from __future__ import annotations

from psycopg import sql

from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.table import grant_select

__all__ = ["grants"]

_ROLE = """\
-- Run with psql in the database of the jobs table. The password is not set here: \\password taskq_exporter
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'taskq_exporter') THEN
        CREATE ROLE taskq_exporter LOGIN CONNECTION LIMIT 10;
    END IF;
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO taskq_exporter', pg_catalog.current_database());
END $$;"""
_SETTINGS = """\
-- Belts beside the braces: the exporter sets the same in each of its transactions.
ALTER ROLE taskq_exporter SET default_transaction_read_only = on;
ALTER ROLE taskq_exporter SET idle_in_transaction_session_timeout = '60s';"""


def grants(options: PostgresOptions) -> str:
    """SQL that makes the role and lets it read the configured columns, and nothing else. May be run again."""
    table, workers = options.table, options.workers
    names = [table.table_name, *([workers.table_name] if workers else [])]
    schemas = dict.fromkeys(name.schema for name in names)
    lines = [
        _ROLE,
        *(f"GRANT USAGE ON SCHEMA {sql.Identifier(s).as_string(None)} TO taskq_exporter;" for s in schemas),
    ]
    columns = list(dict.fromkeys(table.columns.given().values()))
    if options.outcomes and options.finished.mode == "xid":
        columns.append("xmin")  # which transaction wrote a row: no content, but a right of its own
    lines.append(grant_select(table.table_name, columns))
    if workers:
        lines.append(grant_select(workers.table_name, list(dict.fromkeys(workers.columns.given().values()))))
    return "\n".join([*lines, _SETTINGS]) + "\n"
