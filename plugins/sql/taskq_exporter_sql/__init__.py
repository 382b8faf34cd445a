"""Toolkit for taskq-exporter adapters whose queues are in a SQL database."""

from taskq_exporter_sql.broker import Told, server_told
from taskq_exporter_sql.catalog import DEFAULT_SCHEMA, Column, Relation, TableName, describe, marks, parse_table_name
from taskq_exporter_sql.client import SqlClient, Transaction, connect, read_only
from taskq_exporter_sql.guard import FullRead, Plan, full_reads, plan_of
from taskq_exporter_sql.horizon import Horizon, IdMarks, XidCursor, read_horizon
from taskq_exporter_sql.rights import ROLE, SETTINGS, STATISTICS, grant_select, grant_usage, hidden_rows
from taskq_exporter_sql.totals import MAX_GROUPS, count_finished, event_counts, finished_totals

__all__ = [
    "DEFAULT_SCHEMA",
    "MAX_GROUPS",
    "ROLE",
    "SETTINGS",
    "STATISTICS",
    "Column",
    "FullRead",
    "Horizon",
    "IdMarks",
    "Plan",
    "Relation",
    "SqlClient",
    "TableName",
    "Told",
    "Transaction",
    "XidCursor",
    "connect",
    "count_finished",
    "describe",
    "event_counts",
    "finished_totals",
    "full_reads",
    "grant_select",
    "grant_usage",
    "hidden_rows",
    "marks",
    "parse_table_name",
    "plan_of",
    "read_horizon",
    "read_only",
    "server_told",
]
