"""What the operator is told: sources that are there, rights that are needed, things to put right."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr
from taskq_exporter_redis import acl_line
from taskq_exporter_sql import (
    DEFAULT_SCHEMA,
    ROLE,
    SETTINGS,
    STATISTICS,
    SqlClient,
    TableName,
    grant_select,
    grant_usage,
    read_only,
)
from taskq_exporter_sql import describe as describe_tables

from taskq_exporter.api import Detected, Finding, Source
from taskq_exporter_taskflow.client import Client
from taskq_exporter_taskflow.collect import collect
from taskq_exporter_taskflow.lists import COMMANDS, KEYS
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.statements import READS

__all__ = ["detect", "diagnose", "grants"]

TIMEOUT = 5.0  # seconds


def grants(source: Source) -> str:
    """SQL for the database, then the ACL line for Redis."""
    options: TaskflowOptions = source.options
    tables = [grant_select(TableName(options.db_schema, table), columns) for table, columns in READS.items()]
    line = acl_line(
        (*(f"~{key}" for key in KEYS), "-@all", *(f"+{command}" for command in COMMANDS)),
        ("~worker:*", "-@all", "+hmget"),
    )
    return "\n".join([ROLE, grant_usage(options.db_schema), *tables, STATISTICS, SETTINGS, "", line]) + "\n"


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """The TaskFlow of DATABASE_URL and REDIS_URL, where the database has all of its columns. Raises AdapterError."""
    url, redis_url = env.get("DATABASE_URL", ""), env.get("REDIS_URL", "")
    if url.partition("://")[0].split("+")[0] not in TaskflowOptions.schemes or not redis_url:
        return []
    client = SqlClient(url, timeout=TIMEOUT)
    names = {table: TableName(DEFAULT_SCHEMA, table) for table in READS}
    try:
        async with read_only(client, timeout=TIMEOUT) as transaction:
            there = await describe_tables(transaction, names.values())
    finally:
        client.drop()
    if any(name not in there or not {*READS[table]} <= {*there[name].columns} for table, name in names.items()):
        return []
    return [Detected(name="taskflow", url=url, options={"redis_url": SecretStr(redis_url)})]


async def diagnose(source: Source, client: Client) -> list[Finding]:
    """What both servers say. Raises AdapterError where neither can be read."""
    snapshot = await collect(source, client)
    failed = {problem.part for problem in snapshot.problems}
    found = [
        Finding(level="ok", text=f"{what} can be read")
        for part, what in (("database", "the database"), ("redis", "Redis"))
        if part not in failed
    ]
    found += [Finding(level="problem", text=f"{p.part}: {p.message}") for p in snapshot.problems]
    zone = source.options.naive_timezone
    found.append(
        Finding(
            level="note",
            text=f"TaskFlow's times have no time zone and are read as {zone}",
            advice="set naive_timezone to the time zone of its database sessions",
        )
    )
    return [*found, *snapshot.findings]
