"""The rights of the exporter's role `taskq_exporter`, as SQL to run once."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_sql.catalog import TableName

__all__ = ["ROLE", "SETTINGS", "STATISTICS", "grant_select", "grant_usage", "hidden_rows"]

#: Makes the role.
ROLE = """\
-- Run with psql in the database of the jobs table. The password is not set here: \\password taskq_exporter
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'taskq_exporter') THEN
        CREATE ROLE taskq_exporter LOGIN CONNECTION LIMIT 10;
    END IF;
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO taskq_exporter', pg_catalog.current_database());
END $$;"""
#: What the role's sessions begin with.
SETTINGS = """\
-- Belts beside the braces: the exporter sets the same in each of its transactions.
ALTER ROLE taskq_exporter SET default_transaction_read_only = on;
ALTER ROLE taskq_exporter SET statement_timeout = '60s';
ALTER ROLE taskq_exporter SET lock_timeout = '500ms';
ALTER ROLE taskq_exporter SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE taskq_exporter SET jit = off;
ALTER ROLE taskq_exporter SET max_parallel_workers_per_gather = 0;"""

#: What the server tells of itself; see broker.py.
STATISTICS = """\
-- For taskq_broker_connections and taskq_broker_slow_statement_seconds alone: without it these two are absent. It also
-- shows the role the texts of all statements on the server.
GRANT pg_read_all_stats TO taskq_exporter;"""


def grant_usage(schema: str) -> str:
    """The GRANT that lets the exporter's role name what is in a schema."""
    return f"GRANT USAGE ON SCHEMA {sql.Identifier(schema).as_string(None)} TO taskq_exporter;"


def grant_select(table: TableName, columns: Sequence[str]) -> str:
    """The GRANT that lets the exporter's role read these columns."""
    listed = ", ".join(sql.Identifier(column).as_string(None) for column in columns)
    return f"GRANT SELECT ({listed}) ON {table} TO taskq_exporter;"


def hidden_rows(table: TableName) -> AdapterError:
    """The failure that row-level security is, with what mends it: what is counted would be too low."""
    return AdapterError(
        Reason.PERMISSION,
        f"row-level security of {table} may hide rows: run: CREATE POLICY taskq_exporter ON {table}"
        " FOR SELECT TO taskq_exporter USING (true); or, where restrictive policies stay in the way:"
        " ALTER ROLE taskq_exporter BYPASSRLS;",
    )
