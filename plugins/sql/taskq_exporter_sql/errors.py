"""What PostgreSQL and libpq say, as closed reasons and messages of our own: theirs may name hosts, users or the DSN."""

from __future__ import annotations

import psycopg

from taskq_exporter.api import AdapterError, Reason

__all__ = ["UNPREPARED", "adapter_error", "connect_error"]

#: A prepared statement is gone, or another's is there.
UNPREPARED = ("26000", "42P05")

#: By SQLSTATE, the longest prefix first: the reason, and what it means for whoever reads the log.
_BY_STATE: tuple[tuple[str, Reason, str], ...] = (
    ("42501", Reason.PERMISSION, "a right is missing: run what `taskq-exporter grants` prints"),
    ("26000", Reason.BUSY, "a pooler took a prepared statement away: none is prepared from now on"),
    ("42P05", Reason.BUSY, "a pooler gave us others' prepared statements: none is prepared from now on"),
    ("42P01", Reason.SCHEMA, "a table is missing"),
    ("42703", Reason.SCHEMA, "a column is missing"),
    ("55P03", Reason.BUSY, "a table is locked by someone else, e.g. a migration"),
    ("57014", Reason.TIMEOUT, "the server took too long"),
    ("57P03", Reason.BUSY, "the server is starting up or shutting down"),
    ("25P03", Reason.TIMEOUT, "the transaction was idle for too long"),
    ("25P04", Reason.TIMEOUT, "the server took too long"),
    ("3D000", Reason.CONNECT, "there is no such database: check the name at the end of the URL"),
    ("0A000", Reason.UNSUPPORTED, "the server cannot do this (on a standby: unlogged tables cannot be read)"),
    ("22P02", Reason.SCHEMA, "a configured word does not fit the column's type"),
    ("22023", Reason.SCHEMA, "the server does not know a configured value, e.g. a time zone"),
    ("57P", Reason.CONNECT, "the server closed the connection"),
    ("08", Reason.CONNECT, "the connection failed"),
    ("28", Reason.AUTH, "the server refuses user or password"),
    ("40", Reason.BUSY, "the server gave up the transaction in favour of others"),
    ("53", Reason.BUSY, "the server is out of connections, memory or disk"),
    ("22", Reason.SCHEMA, "a row holds a value that its column's role cannot have"),
    ("42", Reason.SCHEMA, "the configuration does not fit the table"),
    ("3F", Reason.SCHEMA, "a schema is missing"),
)
#: Classes whose text only repeats identifiers and configured words.
_HARMLESS_TEXT = ("42", "3F", "22P02", "22023")

#: libpq gives no SQLSTATE for a refused connection, so its text decides; server messages in English.
_BY_TEXT: tuple[tuple[str, Reason, str], ...] = (
    ("too many connections for role", Reason.BUSY, "the role is at its CONNECTION LIMIT"),
    ("too many c", Reason.BUSY, "the server is out of connections"),
    ("remaining connection slots", Reason.BUSY, "the server is out of connections"),
    ("the database system is", Reason.BUSY, "the server is starting up or shutting down"),
    ("password authentication failed", Reason.AUTH, "the server refuses user or password"),
    ("no password supplied", Reason.AUTH, "the server wants a password and the URL has none"),
    ("authentication failed", Reason.AUTH, "the server refuses user or password"),
    ("pg_hba.conf", Reason.AUTH, "pg_hba.conf of the server does not let this user, address or (missing) TLS in"),
    ("is not permitted to log in", Reason.AUTH, "the role has no LOGIN right"),
    ('role "', Reason.AUTH, "the server does not know the role or does not let it in"),
    ("permission denied for database", Reason.PERMISSION, "the role may not connect to this database: GRANT CONNECT"),
    ('database "', Reason.CONNECT, "there is no such database: check the name at the end of the URL"),
    ("Connection refused", Reason.CONNECT, "nobody listens at the URL's host and port"),
    ("No such file", Reason.CONNECT, "there is no socket, key or certificate at a path that the URL names"),
    ("failed to resolve host", Reason.CONNECT, "the URL's host name cannot be resolved"),
    ("certificate", Reason.CONNECT, "TLS fails on a certificate: check sslmode, sslrootcert, sslcert and sslkey"),
    ("unsupported startup parameter", Reason.CONNECT, "a pooler refuses a parameter: leave options= out of the URL"),
    ("SSL", Reason.CONNECT, "TLS fails: check sslmode and what the server offers"),
    ("timeout expired", Reason.TIMEOUT, "the server does not answer"),
)


def adapter_error(error: psycopg.Error, doing: str) -> AdapterError:
    """The expected failure that a statement's error is; `doing` is what it was sent for, e.g. "counting jobs"."""
    state = error.sqlstate or ""
    for prefix, reason, text in _BY_STATE:
        if state.startswith(prefix):
            primary = error.diag.message_primary
            detail = f" ({primary})" if primary and state.startswith(_HARMLESS_TEXT) else ""
            return AdapterError(reason, f"{doing}: {text}{detail}")
    if not state and isinstance(error, psycopg.OperationalError):
        return AdapterError(Reason.CONNECT, f"{doing}: the server closed the connection")
    return AdapterError(Reason.PROTOCOL, f"{doing}: unexpected error {state or type(error).__name__} of the server")


def connect_error(error: psycopg.Error) -> AdapterError:
    """The expected failure that a refused connection is."""
    if error.sqlstate:
        return adapter_error(error, "cannot connect")
    said = str(error)
    for part, reason, text in _BY_TEXT:
        if part in said:
            return AdapterError(reason, f"cannot connect: {text}")
    return AdapterError(Reason.CONNECT, "cannot connect: psql with the same URL says why")
