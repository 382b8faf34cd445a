"""The server itself: connections by state, what the database did, and how long slow statements take.

In a transaction of its own after that of a collect, no more often than every 10 s: what is counted does not wait for
it, nor fails with it. Verified with PostgreSQL 15 and 18, pg_stat_statements 1.10 and 1.12.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from psycopg import sql

from taskq_exporter.api import AdapterError, BrokerStats, Capability, Problem, Reason
from taskq_exporter_sql.client import SqlClient, Transaction, read_only

__all__ = ["Told", "server_told"]

Why = Literal["none", "version", "permission", "option", "backend"]

#: Seconds between looks at the server, and at its statements.
EVERY: Final = 10.0
SLOW_EVERY: Final = 60.0
#: Seconds that a statement must have taken once to be looked at, and that a mean must reach to be told.
SLOW_FROM: Final = 0.1
#: Seconds that a look may take, the part of what is left of a collect's time, and how much must be left.
LIMIT: Final = 1.0
SHARE: Final = 0.5
LEAST: Final = 0.1

_CONNECTIONS, _SLOW = "taskq_broker_connections", "taskq_broker_slow_statement_seconds"
_LIMIT, _COMMANDS = "taskq_broker_connections_limit", "taskq_broker_commands_total"
_OWN: Final = {_CONNECTIONS, _SLOW, _LIMIT, _COMMANDS}
_OPTION: Why = "option"
_NOT_THERE: Final = {Reason.SCHEMA, Reason.UNSUPPORTED, Reason.PROTOCOL}
#: States that are 0 where the server names none of them; the words are its own.
_ALWAYS: Final = ("active", "idle", "idle in transaction")
#: Statements by kind are only in pg_stat_statements, which forgets those that are seldom: their sum is no total.
_KINDS: Final = {
    "commit": "xact_commit",
    "rollback": "xact_rollback",
    "insert": "tup_inserted",
    "update": "tup_updated",
    "delete": "tup_deleted",
    "fetch": "tup_fetched",
}
#: The schema of pg_stat_statements is NULL where there is none, and '' where the role may not use it.
_DATABASE = sql.SQL(
    "SELECT current_setting('max_connections')::int, pg_has_role('pg_read_all_stats', 'USAGE'),"
    " (SELECT CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN n.nspname ELSE '' END FROM pg_extension e"
    " JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'), {kinds}"
    " FROM pg_stat_database WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())"
).format(kinds=sql.SQL(", ").join(map(sql.Identifier, _KINDS.values())))
_STATES = sql.SQL(
    "SELECT coalesce(state, ''), count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1"
)
#: With false it does not read the texts, which are in a file.
_STATEMENTS = (
    "SELECT queryid, sum(calls)::float8, sum(total_exec_time) / 1000 FROM {schema}.pg_stat_statements(false)"
    " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL"
    " AND max_exec_time >= {slow} GROUP BY queryid ORDER BY max(max_exec_time) DESC LIMIT 1000"
)
_ADVICE: Final[Mapping[tuple[str, Why], str]] = {
    (_CONNECTIONS, "permission"): "grant pg_read_all_stats to the user",
    (_SLOW, "permission"): "grant pg_read_all_stats, and USAGE on the schema of pg_stat_statements, to the user",
    (_SLOW, "backend"): "load pg_stat_statements by shared_preload_libraries, and CREATE EXTENSION pg_stat_statements",
}
_Totals = Mapping[int, tuple[float, float]]  # calls and seconds by statement


@dataclass(frozen=True, slots=True)
class Told:
    """What a snapshot takes over."""

    stats: BrokerStats
    capabilities: tuple[Capability, ...]
    problems: tuple[Problem, ...]
    commands: int = 0  # statements that were sent for it


@dataclass(slots=True)
class _Server:
    """What the last looks told."""

    look_at: float = 0.0  # the loop's time of the next look
    stats: BrokerStats = field(default_factory=BrokerStats)
    why: dict[str, Why] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    slow_at: float = 0.0  # of the next look at statements
    slow: float | None = None
    totals: _Totals | None = None

    def failed(self, error: AdapterError, now: float, *families: str) -> None:
        """Note what could not be read; it is not asked for again for a minute. A server without it is no problem."""
        self.look_at = self.slow_at = now + SLOW_EVERY
        if error.reason in _NOT_THERE:
            self.why |= dict.fromkeys(families, "backend")
            return
        if error.reason is Reason.PERMISSION:
            self.why |= dict.fromkeys(families, "permission")
        self.problems.append(Problem(reason=error.reason, part="server", message=str(error)))


async def server_told(client: SqlClient, *, roundtrip: float, left: float, disabled: Set[str] = frozenset()) -> Told:
    """What the server tells of itself, perhaps some seconds ago. Raises nothing: what fails is a problem.

    Connections are those of the server; commands those of the database: transactions, and rows written and fetched.

    Args:
        client: Outside a transaction.
        roundtrip: Of the collect's own transaction, in seconds.
        left: Seconds that are left for the collect.
        disabled: Families that are not asked for.
    """
    server: _Server = client.of_server.setdefault("server", _Server())
    now, before = asyncio.get_running_loop().time(), client.commands_sent
    if now >= server.look_at and left > LEAST and not disabled >= _OWN:
        server.look_at = now + EVERY
        server.why, server.problems, server.stats = {}, [], BrokerStats()
        try:
            async with read_only(client, timeout=min(LIMIT, SHARE * left)) as transaction:
                await _look(transaction, server, disabled, now)
        except AdapterError as error:
            server.failed(error, now, *_OWN)
    why: dict[str, Why] = {**server.why, **dict.fromkeys(disabled & _OWN, _OPTION)}
    return Told(
        replace(server.stats, roundtrip_seconds=roundtrip, slow_statement_seconds=server.slow),
        (
            Capability(family="taskq_broker_roundtrip_seconds"),
            Capability(family="taskq_broker_memory_bytes", reason="backend"),
            *(_capability(family, why.get(family, "none")) for family in sorted(_OWN)),
        ),
        tuple(server.problems),
        client.commands_sent - before,
    )


def _capability(family: str, why: Why) -> Capability:
    return Capability(family=family, reason=why, advice=_ADVICE.get((family, why), ""))


async def _look(transaction: Transaction, server: _Server, disabled: Set[str], now: float) -> None:
    rows = await transaction.fetch("server", _DATABASE, doing="reading the database's statistics")
    if not rows:
        raise AdapterError(Reason.UNSUPPORTED, "no statistics of the database")
    limit, sees_all, schema, *counts = rows[0]
    commands = {kind: int(n) for kind, n in zip(_KINDS, counts, strict=True) if n is not None}
    server.stats = BrokerStats(connections_limit=limit, commands=commands)
    if not sees_all:  # the states and statements of others are hidden: their sums would be too low
        server.why[_CONNECTIONS] = "permission"
    elif _CONNECTIONS not in disabled:
        with _part(server, _CONNECTIONS, now):
            async with transaction.savepoint():
                states = await transaction.fetch("connections", _STATES, doing="counting connections")
                connections = dict.fromkeys(_ALWAYS, 0) | dict(states)
                server.stats = replace(server.stats, connections=connections)
    if not schema or not sees_all:
        server.why[_SLOW] = "backend" if schema is None else "permission"
        server.slow = server.totals = None
    elif _SLOW not in disabled and now >= server.slow_at:
        server.slow_at = now + SLOW_EVERY
        query = sql.SQL(_STATEMENTS).format(schema=sql.Identifier(schema), slow=sql.Literal(1000 * SLOW_FROM))
        with _part(server, _SLOW, now):
            async with transaction.savepoint():
                rows = await transaction.fetch("statements", query, doing="reading pg_stat_statements")
                totals = {statement: (calls, seconds) for statement, calls, seconds in rows}
                server.slow, server.totals = _slowest(server.totals, totals), totals


@contextmanager
def _part(server: _Server, family: str, now: float) -> Iterator[None]:
    """What fails in here, while the connection holds, is missing by itself."""
    try:
        yield
    except AdapterError as error:
        if error.reason is Reason.CONNECT:
            raise
        server.failed(error, now, family)
        if family == _SLOW:
            server.slow = server.totals = None


def _slowest(before: _Totals | None, now: _Totals) -> float | None:
    """The highest mean of what ended between two looks, in seconds; None at the first."""
    if before is None:
        return None
    slowest = 0.0
    for statement, (calls, seconds) in now.items():
        known_calls, known_seconds = before.get(statement, (0.0, 0.0))
        if calls < known_calls:  # forgotten since, and begun anew
            known_calls = known_seconds = 0.0
        if calls > known_calls:
            slowest = max(slowest, (seconds - known_seconds) / (calls - known_calls))
    return slowest if slowest >= SLOW_FROM else 0.0
