"""A cursor over rows by the transaction that wrote them: loses no late commit and counts none twice.

A snapshot's xmin is the oldest transaction that still runs: everything below has ended, for good. So the rows with
`prev_xmin <= row.xmin < xmin` are exactly those that were committed and became certain since the last look, whatever
clock wrote their times and however long their transactions took. Verified with PostgreSQL 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from psycopg import sql

from taskq_exporter_sql.client import Transaction

__all__ = ["Horizon", "IdMarks", "XidCursor", "read_horizon"]

MAX_MARKS = 64
_N = TypeVar("_N", int, float)
_MASK = 4294967295
_QUERY = sql.SQL(
    "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
    # a standby shows transactions that began before its now(): it is as old as the last one that it replayed
    " extract(epoch FROM CASE WHEN pg_is_in_recovery()"
    " THEN least(pg_last_xact_replay_timestamp(), now()) ELSE now() END)::float8, pg_is_in_recovery(),"
    " (SELECT oid::text FROM pg_database WHERE datname = current_database())"
    " FROM (SELECT pg_current_snapshot() AS s) AS q"
)


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the server is: full transaction ids and the server's clock at the transaction's snapshot."""

    oldest: int  # the oldest transaction that may still run
    following: int  # the next one to be given out
    now: float  # Unix seconds, not after the snapshot; on a standby, of the last commit that it shows
    standby: bool
    database: str


async def read_horizon(transaction: Transaction) -> Horizon:
    """The horizon of the transaction's own snapshot. Raises AdapterError."""
    ((oldest, following, now, standby, database),) = await transaction.fetch("horizon", _QUERY, again=True)
    return Horizon(oldest, following, now, standby, database)


@dataclass(frozen=True, slots=True)
class XidCursor:
    """Up to which transaction rows are counted, and since when a row that is not could have been written."""

    oldest: int
    #: (next transaction id, server time) of earlier looks: a transaction at or above the id began writing after that
    #: time. The first one bounds the scan: hours back, while a long transaction holds the horizon.
    marks: tuple[tuple[int, float], ...]
    database: str

    @classmethod
    def start(cls, horizon: Horizon) -> Self:
        """Count from now on."""
        return cls(horizon.oldest, ((horizon.oldest, horizon.now),), horizon.database)

    @classmethod
    def load(cls, state: Any) -> Self:
        """What `dump` returned. Raises ValueError for anything else."""
        try:
            marks = tuple((int(xid), float(at)) for xid, at in state["marks"])
            cursor = cls(int(state["hi"]), marks, str(state["database"]))
            _ = cursor.since
        except (KeyError, TypeError, IndexError):
            raise ValueError("not a cursor by transaction ids") from None
        return cursor

    def dump(self) -> dict[str, Any]:
        """For JSON."""
        return {"hi": self.oldest, "marks": [list(mark) for mark in self.marks], "database": self.database}

    @property
    def since(self) -> float:
        """A row above the cursor was written by a transaction that began to write after this (server time)."""
        return self.marks[0][1]

    def misfit(self, horizon: Horizon) -> str:
        """Why the cursor is none of this server; empty where it is."""
        if horizon.database != self.database:
            return "the database was made anew"
        if horizon.oldest < self.oldest and not horizon.standby:  # a standby may be behind the one asked before
            return "the server's transaction ids are behind the cursor: another server, or one restored from a backup"
        if horizon.oldest - self.oldest >= 2**31:
            return "too many transactions since the last look"
        return ""

    def advance(self, horizon: Horizon) -> Self:
        """The cursor after everything below the horizon is counted."""
        return replace(self, oldest=horizon.oldest, marks=_moved(self.marks, horizon, horizon.now))

    def lag(self, horizon: Horizon) -> float:
        """How many seconds of commits may be missing below the horizon; 0 where nothing was running."""
        return 0.0 if horizon.oldest == horizon.following else max(horizon.now - self.since, 0.0)

    def window(self, horizon: Horizon, xmin: sql.Composable) -> sql.Composable:
        """The condition that a row's `xmin` (32 bits) is in [cursor, horizon)."""
        # age() counts back from the next id, and costs a tenth of an id as text, the only other way to a number
        return sql.SQL("((age({xmin})::bigint - age({hi}::xid) - 1) & {mask}) < {width}").format(
            xmin=xmin,
            hi=sql.Literal(str(horizon.oldest & _MASK)),
            mask=sql.Literal(_MASK),
            width=sql.Literal(horizon.oldest - self.oldest),
        )


#: How much smaller an id may be than one that was given out before it was written: sequences run ahead of transactions.
ID_OVERLAP = 1000


@dataclass(frozen=True, slots=True)
class IdMarks:
    """The bound of a scan by an ascending id, for tables with an index on that and none on a time.

    A transaction at or above a mark's id of transactions began to write after that look, so its rows have higher ids
    than those that were there then, but for those that were taken from the sequence long before they were written.
    """

    marks: tuple[tuple[int, int], ...]  # (next transaction id, highest id) of earlier looks

    @classmethod
    def start(cls, horizon: Horizon, highest: int) -> Self:
        """Count from now on."""
        return cls(((horizon.oldest, highest),))

    @classmethod
    def load(cls, state: Any) -> Self:
        """What `dump` returned. Raises ValueError for anything else."""
        try:
            marks = cls(tuple((int(xid), int(highest)) for xid, highest in state))
            _ = marks.above
        except (TypeError, IndexError):
            raise ValueError("not marks of ids") from None
        return marks

    def dump(self) -> list[list[int]]:
        """For JSON."""
        return [list(mark) for mark in self.marks]

    @property
    def above(self) -> int:
        """A row that is not counted has a higher id."""
        return self.marks[0][1] - ID_OVERLAP

    def advance(self, horizon: Horizon, highest: int) -> Self:
        """After everything below the horizon is counted."""
        return replace(self, marks=_moved(self.marks, horizon, highest))


def _moved(marks: Sequence[tuple[int, _N]], horizon: Horizon, where: _N) -> tuple[tuple[int, _N], ...]:
    """The marks with one more, without those that the horizon has passed."""
    kept = list(marks)
    kept.append((horizon.following, where))
    kept = kept[max((i for i, (xid, _) in enumerate(kept) if xid <= horizon.oldest), default=0) :]
    if len(kept) > MAX_MARKS:  # leaving marks out only makes the bound lower
        kept = kept[:1] + kept[1:-1:2] + kept[-1:]
    return tuple(kept)
