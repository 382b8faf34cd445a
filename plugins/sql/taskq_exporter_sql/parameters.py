"""What libpq is told when a connection is opened."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from taskq_exporter.api import AdapterError, Reason

__all__ = ["parameters"]

APPLICATION_NAME = "taskq-exporter"


def parameters(url: str, timeout: float) -> dict[str, Any]:
    """The parameters of a connection to `url`, which may take `timeout` seconds to open.

    Raises AdapterError(connect) where `url` is none of PostgreSQL.
    """
    url = re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", url)  # as SQLAlchemy writes it
    given: dict[str, Any] | None = None
    with suppress(psycopg.Error):  # its text repeats the URL: it must not even be the context of ours
        given = dict(conninfo_to_dict(url))
    if given is None:
        raise AdapterError(
            Reason.CONNECT,
            "the URL is none of PostgreSQL: write postgresql://user:password@host:5432/database?option=value,"
            " with special characters of user and password percent-encoded",
        )
    defaults: dict[str, Any] = {
        "fallback_application_name": APPLICATION_NAME,
        "connect_timeout": max(2, int(timeout / 2)),  # so that a second host still gets its turn
        "keepalives_idle": 30,
    }
    return {**defaults, **given, "client_encoding": "utf8"}
