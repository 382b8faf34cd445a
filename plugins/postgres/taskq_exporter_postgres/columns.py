"""The output columns of each kind of statement: what they mean, and how they are read. The one place for both.

A statement gives those that it knows, in any order and of any type that casts; others are refused, so that a
misspelt one is no silence. What is NULL or left out is not known. Times are Unix seconds, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from psycopg import sql

from taskq_exporter.api import AdapterError, Reason

__all__ = ["COLUMNS", "NEEDED", "projected"]

_NAME = "left({0}::text, 256)"  # a column of documents must not fill the exporter's memory
_TEXT = "{0}::text"
_COUNT = "{0}::bigint"
_SECONDS = "CASE WHEN {0}::float8 < 'infinity' THEN greatest({0}::float8, 0) END"  # clocks differ; NaN is above
_TIME = "CASE WHEN {0}::float8 >= 0 AND {0}::float8 < 'infinity' THEN {0}::float8 END"
_FLAG = "{0}::boolean"

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    # counts of live jobs; rows of one queue and state add up, their ages take the longest
    "jobs": {
        "queue": _NAME,
        "state": _TEXT,  # may be left out where the statement tells one state
        "task": _NAME,  # of running jobs: the longest run by name
        "worker": _NAME,  # of running and reserved jobs: who holds them
        "priority": _NAME,  # a level, at most about 20
        "n": _COUNT,  # NULL: the row says an age only
        "oldest_seconds": _SECONDS,  # ready: since it could have run; running: since it began
        "overdue": _COUNT,  # how many of the ready ones the queue system should have moved by now
    },
    # queues that exist, however empty, and what their system keeps of them
    "queues": {
        "queue": _NAME,
        "consumers": _COUNT,  # workers that read it
        "slots": _COUNT,
        "paused": _FLAG,
        "enqueued": _COUNT,  # a total that only grows, exact
    },
    # one row a worker; or, without `worker`, rows of (state, n) where workers have no stable names
    "workers": {
        "worker": _NAME,
        "up": _FLAG,
        "state": _TEXT,  # idle, busy, paused, draining, silent, offline
        "last_heartbeat": _TIME,
        "started": _TIME,
        "slots": _COUNT,
        "running": _COUNT,
        "reserved": _COUNT,
        "pool": _NAME,
        "software": _NAME,
        "software_version": _NAME,
        "n": _COUNT,
    },
    # one row an entry of a schedule; without `entry`, a row about the scheduler itself
    "schedules": {
        "scheduler": _NAME,
        "entry": _NAME,
        "last_run": _TIME,
        "next_run": _TIME,
        "up": _FLAG,
        "last_beat": _TIME,
    },
    # one row an attempt that ended; with mode totals one row a label set, with its total
    "finished": {
        "outcome": _TEXT,  # may be left out where the statement tells one outcome
        "queue": _NAME,
        "task": _NAME,
        "run_seconds": _SECONDS,
        "wait_seconds": _SECONDS,  # from runnable to started
        "key": _TEXT,  # only for mode ids: what tells one end from another, with `finished_at`
        "finished_at": _TIME,
        "total": _COUNT,
    },
    "started": {"queue": _NAME, "task": _NAME, "total": _COUNT},
    "enqueued": {"queue": _NAME, "task": _NAME, "priority": _NAME, "total": _COUNT},
}
_TYPES = {_NAME: "text", _TEXT: "text", _COUNT: "bigint", _SECONDS: "float8", _TIME: "float8", _FLAG: "boolean"}
#: Of these a statement gives one at least.
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "jobs": ("n", "oldest_seconds"),
    "queues": ("queue",),
    "workers": ("worker", "n"),
    "schedules": ("entry", "up", "last_beat"),
}


def projected(kind: str, query: sql.Composable, given: Iterable[str], what: str) -> sql.Composable:
    """The statement with all columns of its kind in their order and of their types, NULL where it does not give one.

    Args:
        kind: Of COLUMNS.
        query: The author's SELECT, which stands in a sub-select: nothing but a SELECT fits there.
        given: The columns that it gives.
        what: For the error message, e.g. "statement jobs.ready".

    Raises:
        AdapterError: schema, where it gives a column that there is none of, or none of those that it must.
    """
    columns, given = COLUMNS[kind], list(given)
    if unknown := sorted(set(given) - set(columns)):
        known = ", ".join(columns)
        raise AdapterError(Reason.SCHEMA, f"{what} gives a column {unknown[0]!r}; those of {kind} are {known}")
    if len(set(given)) < len(given):
        raise AdapterError(Reason.SCHEMA, f"{what} gives a column twice")
    needed = NEEDED.get(kind, ())
    if needed and not set(needed) & set(given):
        raise AdapterError(Reason.SCHEMA, f"{what} must give {' or '.join(needed)}")
    selected = sql.SQL(", ").join(
        sql.SQL(f"{form} AS {{1}}" if name in given else f"NULL::{_TYPES[form]} AS {{1}}").format(
            sql.Identifier(name), sql.Identifier(name)
        )
        for name, form in columns.items()
    )
    return sql.SQL("SELECT {} FROM (\n{}\n) AS q").format(selected, query)
