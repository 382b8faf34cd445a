"""The window of transaction ids: its arithmetic in the server, and the bound that its marks give."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from taskq_exporter_sql import Horizon, IdMarks, XidCursor, connect, read_horizon, read_only
from taskq_exporter_sql.horizon import ID_OVERLAP

from taskq_exporter.api import Source
from taskq_exporter.testing import Server

HERE = Horizon(oldest=1000, following=1010, now=5000.0, standby=False, database="5")


@pytest.mark.parametrize("base", [0, 2**32 - 50, 2**32, 7 * 2**32 - 3, 2**40])
def test_the_window_in_sql_is_the_window_of_full_ids(postgres_dsn: str, base: int) -> None:
    """A row keeps 32 bits of the id of its transaction; which wrap."""
    hi, low = base + 100, base + 40
    cursor, horizon = XidCursor.start(replace(HERE, oldest=low)), replace(HERE, oldest=hi)
    full = [x for x in range(base - 20, base + 130) if x & 0xFFFFFFFF >= 3]  # which are no transactions
    with psycopg.connect(postgres_dsn) as connection:
        query = sql.SQL("SELECT x FROM (VALUES {}) AS v (x, low) WHERE {}").format(
            sql.SQL(", ").join(sql.SQL("({}::bigint, {}::bigint)").format(x, x & 0xFFFFFFFF) for x in full),
            cursor.window(horizon, sql.SQL("low::text::xid")),
        )
        found = {row[0] for row in connection.execute(query)}
    assert found == {x for x in full if low <= x < hi}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0, 20)), max_size=200))
def test_since_is_before_every_transaction_at_or_above_the_cursor(steps: list[tuple[int, int, float]]) -> None:
    """Simulates a server: transactions get ids in order of time, and end in any order."""
    now, following, begun = 0.0, 100, dict[int, float]()
    running: list[int] = []
    cursor: XidCursor | None = None
    first_seen = 0
    for begins, ends, passed in steps:
        now += passed
        for _ in range(begins):
            begun[following] = now
            running.append(following)
            following += 1
        del running[1 : 1 + ends]  # the oldest may stay for long
        if ends == 5:
            del running[:1]
        now += 0.5
        horizon = Horizon(min(running, default=following), following, now, standby=False, database="5")
        first_seen = first_seen or following  # what began before counting did is history
        cursor = cursor.advance(horizon) if cursor else XidCursor.start(horizon)
        assert cursor.oldest == horizon.oldest
        assert all(at >= cursor.since for xid, at in begun.items() if xid >= max(cursor.oldest, first_seen))
        assert len(cursor.marks) <= 64


def test_a_quiet_server_moves_since_and_has_no_lag() -> None:
    cursor = XidCursor.start(replace(HERE, following=1000))
    later = replace(HERE, oldest=1000, following=1000, now=9000.0)
    moved = cursor.advance(later)
    assert (moved.since, moved.lag(later)) == (9000.0, 0.0)


def test_a_held_horizon_keeps_since_and_shows_as_lag() -> None:
    cursor = XidCursor.start(HERE)
    for n in range(1, 500):
        now = replace(HERE, following=1010 + n, now=5000.0 + n)
        cursor = cursor.advance(now)
    assert (cursor.since, cursor.lag(now)) == (5000.0, 499.0)
    released = replace(HERE, oldest=1400, following=1509, now=5500.0)
    assert 5000.0 < cursor.advance(released).since <= 5390.0


def test_json_and_back() -> None:
    cursor = XidCursor.start(HERE).advance(replace(HERE, oldest=1005, following=1020, now=6000.0))
    assert XidCursor.load(json.loads(json.dumps(cursor.dump()))) == cursor


@pytest.mark.parametrize("state", [None, {}, [], 7, "x", {"hi": 1, "marks": [], "database": "5"}, {"hi": "x"}])
def test_what_is_no_cursor(state: object) -> None:
    with pytest.raises(ValueError, match="cursor"):
        XidCursor.load(state)


def test_misfits() -> None:
    cursor = XidCursor.start(HERE)
    assert cursor.misfit(HERE) == ""
    assert "made anew" in cursor.misfit(replace(HERE, database="6"))
    assert "behind" in cursor.misfit(replace(HERE, oldest=999))
    assert cursor.misfit(replace(HERE, oldest=999, standby=True)) == ""
    assert "too many" in cursor.misfit(replace(HERE, oldest=1000 + 2**31))


async def test_a_standby_is_as_old_as_what_it_has_replayed(postgres_own: Server) -> None:
    """Its clock goes on while it lags: by that clock, rows that are still to come would be too old to look for."""
    with psycopg.connect(postgres_own.url, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (at timestamptz); INSERT INTO t VALUES (clock_timestamp())")
        admin.execute("COPY (SELECT) TO PROGRAM 'touch standby.signal'")
        (written,) = admin.execute("SELECT extract(epoch FROM at)::float8 FROM t").fetchone() or (0,)
        with suppress(psycopg.OperationalError):  # a crash: a clean end leaves nothing to replay
            admin.execute("COPY (SELECT) TO PROGRAM 'kill -QUIT $(head -n 1 postmaster.pid); sleep 5'")
    postgres_own.stop()
    postgres_own.start()
    source = Source(name="s", adapter="postgres", url=lambda: postgres_own.url)
    async with connect(source) as client, read_only(client, timeout=5) as transaction:
        horizon = await read_horizon(transaction)
        ((clock,),) = await transaction.fetch("clock", sql.SQL("SELECT extract(epoch FROM now())::float8"))
    assert horizon.standby
    assert written <= horizon.now < clock
    assert horizon.now == pytest.approx(written, abs=1)


def test_a_held_horizon_keeps_the_ids_below_it() -> None:
    marks = IdMarks.start(HERE, 5000)
    for n in range(1, 500):
        marks = IdMarks.load(marks.dump()).advance(replace(HERE, following=1010 + n), 5000 + n)
    assert marks.above == 5000 - ID_OVERLAP
    moved = marks.advance(replace(HERE, oldest=1509, following=1509), 6000)
    assert moved.above == 6000 - ID_OVERLAP


@pytest.mark.parametrize("state", [None, [], [[1]], [["x", 1]], {"a": 1}])
def test_what_are_no_marks_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        IdMarks.load(state)
