"""A connection to PostgreSQL for reading: one short READ ONLY transaction at a time, under deadlines on both sides.

Nothing outlives a transaction that another client of the server's process could meet: no session settings, and
prepared statements only where no pooler stands between. One in transaction mode may.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import methodcaller
from typing import Any, TypeVar

import psycopg
from psycopg import sql, waiting
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from taskq_exporter.api import AdapterError, Reason, Source, sending
from taskq_exporter_sql.errors import UNPREPARED, adapter_error, connect_error
from taskq_exporter_sql.parameters import parameters

__all__ = ["SqlClient", "Transaction", "connect", "read_only"]

OLDEST_SERVER = 130000  # pg_current_snapshot()
LOCK_TIMEOUT = 0.5  # seconds: a read that queues behind a migration makes everybody queue behind the read
Row = tuple[Any, ...]
_T = TypeVar("_T")


class _Connection(psycopg.AsyncConnection[TupleRow]):
    """A connection that dies when a wait on it is cancelled.

    psycopg would ask the server to cancel and wait for its answer, which a frozen server never gives. The server ends
    an abandoned statement itself, at its statement_timeout.
    """

    async def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        options = {} if timeout is None else {"timeout": timeout}  # psycopg before 3.3 knows none
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, **options)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.pgconn.finish()
            raise


class SqlClient:
    """What an adapter reads through, in `read_only` transactions. Opens its connection anew where it was lost."""

    def __init__(self, url: str, *, timeout: float) -> None:
        """Raises AdapterError(connect) where `url` is none of PostgreSQL."""
        self._parameters = parameters(url, timeout)
        self._timeout = timeout
        self._connection: _Connection | None = None
        self._prepares = True
        #: One transaction at a time.
        self.lock = asyncio.Lock()
        #: Statements sent so far.
        self.commands_sent = 0
        #: e.g. "15.18".
        self.server_version = ""
        #: What an adapter learned of this server, for as long as this client is used.
        self.memory: dict[str, Any] = {}
        #: The same of the server itself, which stays while the tables are looked at again.
        self.of_server: dict[str, Any] = {}

    async def open(self) -> tuple[_Connection, bool]:
        """The connection, and whether it is a new one.

        Raises:
            AdapterError: auth, busy, connect, permission, timeout; unsupported for a server before PostgreSQL 13.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection, False
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    connection = await _Connection.connect(
                        autocommit=True,  # transactions begin where we say so
                        prepare_threshold=sys.maxsize,  # what is asked to be, and no more
                        **self._parameters,
                    )
                except BaseException as error:
                    traceback.clear_frames(error.__traceback__)  # they hold the half-open connection: it closes now
                    raise
        except TimeoutError:
            raise AdapterError(Reason.TIMEOUT, "cannot connect: the server does not answer") from None
        except psycopg.Error as error:
            raise connect_error(error) from None
        self._connection = connection
        if connection.info.server_version < OLDEST_SERVER:
            self.drop()
            raise AdapterError(Reason.UNSUPPORTED, "PostgreSQL 13 or newer is needed")
        self.server_version = (connection.info.parameter_status("server_version") or "").split(" ")[0]
        return connection, True

    def drop(self) -> None:
        """Close the connection at once, whatever it is doing."""
        if self._connection is not None:
            # Connection.close() does no more than this, and this needs no await in a cancelled task.
            self._connection.pgconn.finish()
            self._connection = None

    async def execute(self, connection: _Connection, query: sql.Composable, doing: str) -> list[Row]:
        """The rows of one statement. Raises AdapterError."""
        return (await self.ask(connection, query, doing))[0]

    async def ask(
        self, connection: _Connection, query: sql.Composable, doing: str, *, prepare: bool = False
    ) -> tuple[list[Row], tuple[str, ...]]:
        """The rows of one statement and the names of its columns. Raises AdapterError.

        By the extended protocol (binary=True), which takes one statement and no list of them.
        """
        self.commands_sent += 1
        try:
            with sending([query], methodcaller("as_string", connection)):
                prepare = prepare and self._prepares
                cursor = await connection.execute(query.as_bytes(connection), binary=True, prepare=prepare)
                names = tuple(column.name for column in cursor.description or ())
                return await cursor.fetchall() if names else [], names
        except psycopg.Error as error:
            # A pooler that passes on true process ids, and yet gives the next transaction to another process.
            self._prepares &= error.sqlstate not in UNPREPARED
            raise adapter_error(error, doing) from None
        except UnicodeDecodeError:
            raise AdapterError(Reason.PROTOCOL, f"{doing}: a value is not valid UTF-8") from None


class Transaction:
    """An open READ ONLY transaction, whose statements all see the same moment."""

    def __init__(
        self,
        client: SqlClient,
        connection: _Connection,
        deadline: float,
        limit: float,
        roundtrip_seconds: float,
        *,
        direct: bool,
    ) -> None:
        self._client = client
        self._connection = connection
        self._deadline = deadline
        self._limit = limit
        self._direct = direct
        self._sent_before = client.commands_sent - 1  # BEGIN went before
        #: How long the server took to answer BEGIN.
        self.roundtrip_seconds = roundtrip_seconds
        #: How long each fetch took, by its name.
        self.seconds: dict[str, float] = {}

    @property
    def commands(self) -> int:
        """Statements sent in this transaction so far."""
        return self._client.commands_sent - self._sent_before

    async def fetch(self, name: str, query: sql.Composable, *, doing: str = "", again: bool = False) -> list[Row]:
        """The rows of one statement, which the server ends in time; without a savepoint its error ends all of it.

        Args:
            name: Under which `seconds` keeps how long it took.
            query: Names are qualified: search_path is pg_catalog.
            doing: For the error message, e.g. "counting waiting jobs"; else `name`.
            again: Whether the same text will be asked again: the server keeps its plan, where no pooler is between.

        Raises:
            AdapterError: Of any reason that the server's answer maps to.
        """
        clock = asyncio.get_running_loop().time
        left = self._deadline - clock()
        if left < 0.8 * self._limit:  # earlier statements used the time up: the server must not work for nobody
            self._limit = max(left, 0.001)
            setting = sql.SQL("SET LOCAL statement_timeout = {}").format(_milliseconds(self._limit))
            await self._client.execute(self._connection, setting, doing or name)
        started = clock()
        try:
            return (await self._client.ask(self._connection, query, doing or name, prepare=again and self._direct))[0]
        finally:
            self.seconds[name] = clock() - started

    async def forget_plans(self) -> None:
        """Let the server plan anew what it was asked `again`. Raises AdapterError."""
        if self._direct:
            await self._client.execute(self._connection, sql.SQL("DISCARD PLANS"), "forgetting plans")

    async def columns(self, query: sql.Composable, *, doing: str) -> tuple[str, ...]:
        """The names of the columns that a SELECT gives; nothing else than a SELECT passes. Raises AdapterError."""
        probe = sql.SQL("SELECT * FROM (\n{}\n) AS q LIMIT 0").format(query)
        return (await self._client.ask(self._connection, probe, doing))[1]

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What fails in here leaves the transaction as it was before, so that others go on. Raises as what is in it."""
        await self._client.execute(self._connection, sql.SQL("SAVEPOINT part"), "reading a part")
        try:
            yield
        except AdapterError:
            if not self._connection.closed:
                rollback = sql.SQL("ROLLBACK TO SAVEPOINT part")
                await self._client.execute(self._connection, rollback, "reading a part")
            raise


@asynccontextmanager
async def read_only(
    client: SqlClient, *, timeout: float, lock_timeout: float = LOCK_TIMEOUT
) -> AsyncIterator[Transaction]:
    """One READ ONLY, REPEATABLE READ transaction; after any failure its connection is dropped and made anew later.

    REPEATABLE READ, so that a job that moves on between two statements is in exactly one state. It holds back neither
    locks nor transaction ids of others while it lasts, but vacuum: keep it short.

    Args:
        client: Whose connection to use; further transactions wait.
        timeout: Seconds that all of it may take; the server ends a statement when nine tenths of that are over.
        lock_timeout: Seconds to wait for a lock.

    Raises:
        AdapterError: Of any reason that connecting or a statement can have.
    """
    limit = 0.9 * timeout
    begin = _beginning(limit, min(lock_timeout, limit), timeout)
    async with client.lock:
        done = False
        try:
            async with asyncio.timeout(timeout) as deadline:
                ends = asyncio.get_running_loop().time() + limit
                connection, roundtrip, direct = await _begin(client, begin)
                yield Transaction(client, connection, ends, limit, roundtrip, direct=direct)
                await client.execute(connection, sql.SQL("COMMIT"), "reading")
                done = True
        except TimeoutError:
            if not deadline.expired():
                raise
            raise AdapterError(Reason.TIMEOUT, f"the server did not answer within {timeout:g} s") from None
        finally:
            if not done:
                client.drop()


@functools.lru_cache(maxsize=32)
def _beginning(limit: float, lock_timeout: float, timeout: float) -> sql.SQL:
    text = sql.SQL(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {statement};"
        " SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle};"
        " SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0;"
        # under a LIMIT these look cheap: the one reads the history before it finds what waits, the other a whole index
        " SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;"
        " SET LOCAL search_path = pg_catalog; SET LOCAL TimeZone = 'UTC'; SELECT pg_backend_pid()"
    ).format(statement=_milliseconds(limit), lock=_milliseconds(lock_timeout), idle=_milliseconds(timeout))
    return sql.SQL(text.as_string(None))


async def _begin(client: SqlClient, begin: sql.Composable) -> tuple[_Connection, float, bool]:
    """Begin on the open connection; on a new one where the server or a pooler closed it since the last time.

    Returns:
        The connection, the seconds that the server took to answer, and whether no pooler is between: it would have
        made up a process id at the start.
    """
    clock = asyncio.get_running_loop().time
    while True:
        connection, new = await client.open()
        client.commands_sent += 1
        sent = clock()
        try:
            with sending([begin], methodcaller("as_string", connection)):
                cursor = await connection.execute(begin.as_bytes(connection))  # several statements in one round trip
            took = clock() - sent
            while cursor.nextset():
                pass
            row = await cursor.fetchone()
            return connection, took, row == (connection.info.backend_pid,)
        except psycopg.Error as error:
            if new or not connection.closed:
                raise adapter_error(error, "beginning a transaction") from None
            client.drop()


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[SqlClient]:
    """A client for the source's URL, connected: anything that libpq takes, as a URL or as key=value pairs.

    Environment (PGSSLROOTCERT …), service files and .pgpass work as in psql.

    Raises:
        AdapterError: As SqlClient.open(); connect, where the URL is none of PostgreSQL.
    """
    client = SqlClient(source.url(), timeout=source.timeout)
    try:
        await client.open()
        yield client
    finally:
        client.drop()


def _milliseconds(seconds: float) -> sql.Literal:
    return sql.Literal(max(1, int(seconds * 1000)))  # 0 would mean no limit
