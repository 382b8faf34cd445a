"""Toolkit for taskq-exporter adapters whose queues are in a SQL database."""

from taskq_exporter_sql.catalog import Column, Relation, TableName, describe, parse_table_name
from taskq_exporter_sql.client import SqlClient, Transaction, connect, read_only
from taskq_exporter_sql.horizon import Horizon, XidCursor, read_horizon

__all__ = [
    "Column",
    "Horizon",
    "Relation",
    "SqlClient",
    "TableName",
    "Transaction",
    "XidCursor",
    "connect",
    "describe",
    "parse_table_name",
    "read_horizon",
    "read_only",
]
