"""What happened since the last look, each event once: by the transaction that wrote it, by ids, or by totals."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from psycopg import sql
from taskq_exporter_sql import (
    MAX_GROUPS,
    Horizon,
    IdMarks,
    TableName,
    Transaction,
    XidCursor,
    event_counts,
    finished_totals,
    read_horizon,
)

from taskq_exporter.api import AdapterError, Ledger, Reason
from taskq_exporter_postgres.bound import OF_ONE, Binding, BoundStatement, advised, guarded
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.preset import FOLLOWED

__all__ = ["MAX_IDS", "Look", "first_blanks", "look", "needed"]

#: Jobs that mode `ids` may remember.
MAX_IDS = 200_000
#: What events are counted by, until the groups are few enough; without names they are.
_LABELS: Final[tuple[tuple[Literal["queue", "task"], ...], ...]] = (("queue", "task"), ("queue",), ())
Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, and where the follower stands after it."""

    cursor: Any
    lag: float | None
    rows: Sequence[tuple[BoundStatement, Rows]] = field(default=())  # of finished_totals() and event_counts()
    misfit: str = ""
    gap: bool = False  # jobs that were committed late may be missing


async def look(options: PostgresOptions, transaction: Transaction, binding: Binding, ledger: Ledger) -> Look:
    """One look in the binding's mode. Raises AdapterError; cost, where a plan is refused."""
    looks = {"ids": _by_ids, "totals": _by_totals, "xid": _by_xid}
    return await looks[binding.mode or "xid"](options, transaction, binding, ledger)


def needed(binding: Binding) -> None:
    """Raises the failure of a statement that is not optional, or where no statement is left."""
    optional = {f"{one.kind}.{one.name}" for one in binding.dropped if one.optional}
    for problem in binding.problems:
        if problem.part not in optional or not binding.statements:
            raise AdapterError(problem.reason, problem.message)


async def _guard(options: PostgresOptions, transaction: Transaction, binding: Binding, blanks: Blanks) -> None:
    await guarded(transaction, binding, blanks, FOLLOWED, allow_seq_scan=options.allow_seq_scan)
    needed(binding)


# --- by the transaction that wrote a row


async def _by_xid(options: PostgresOptions, transaction: Transaction, binding: Binding, ledger: Ledger) -> Look:
    horizon = await read_horizon(transaction)
    highest = await _highest_ids(transaction, binding)
    start = _XidState.start(horizon, highest)
    try:
        state = start if ledger.cursor is None else _XidState.load(ledger.cursor, set(highest))
        misfit = state.cursor.misfit(horizon)
    except ValueError as error:
        state, misfit = start, str(error)
    blanks = state.blanks(options, binding, horizon)
    await _guard(options, transaction, binding, blanks)
    if ledger.cursor is None or misfit:
        return Look(start.dump(), 0.0, misfit=misfit)
    if horizon.oldest < state.cursor.oldest:  # a standby that is behind the server asked before
        return Look(ledger.cursor, None)
    rows = []
    if horizon.oldest > state.cursor.oldest:
        rows = [(one, await _optional(transaction, ledger, binding, one, blanks)) for one in binding.statements]
    moved = state.advance(horizon, highest)
    return Look(moved.dump(), moved.cursor.lag(horizon), rows)


@dataclass(frozen=True, slots=True)
class _XidState:
    cursor: XidCursor
    marks: Mapping[str, IdMarks]  # by TABLE.COLUMN

    @classmethod
    def start(cls, horizon: Horizon, highest: Mapping[str, int]) -> _XidState:
        return cls(XidCursor.start(horizon), {name: IdMarks.start(horizon, n) for name, n in highest.items()})

    @classmethod
    def load(cls, state: Any, names: set[str]) -> _XidState:
        cursor = XidCursor.load(state)
        above = state.get("above", {})
        if set(above) != names:
            raise ValueError("the cursor is one of other statements")
        return cls(cursor, {name: IdMarks.load(above[name]) for name in names})

    def dump(self) -> dict[str, Any]:
        above = {name: marks.dump() for name, marks in self.marks.items()}
        return {**self.cursor.dump(), **({"above": above} if above else {})}

    def advance(self, horizon: Horizon, highest: Mapping[str, int]) -> _XidState:
        marks = {name: marks.advance(horizon, highest[name]) for name, marks in self.marks.items()}
        return _XidState(self.cursor.advance(horizon), marks)

    def blanks(self, options: PostgresOptions, binding: Binding, horizon: Horizon) -> Blanks:
        return Blanks(
            schema=binding.schema,
            limit=options.max_count + 1,
            since=self.cursor.since - options.finished.overlap,
            above=lambda name: self.marks[name].above,
            window=partial(self.cursor.window, horizon),
        )


async def _highest_ids(transaction: Transaction, binding: Binding) -> dict[str, int]:
    """The highest id in each column that bounds a statement, by TABLE.COLUMN."""
    names = sorted({name for one in binding.statements for name in one.above})
    if not names:
        return {}
    selects = []
    for name in names:
        table, column = name.split(".")
        selects.append(
            sql.SQL("(SELECT coalesce(max({}), 0)::bigint FROM {})").format(
                sql.Identifier(column), TableName(binding.schema, table).identifier
            )
        )
    query = sql.SQL("SELECT {}").format(sql.SQL(", ").join(selects))
    (row,) = await transaction.fetch("highest", query, doing="reading the highest ids")
    return dict(zip(names, row, strict=True))


# --- by remembering ids


async def _by_ids(options: PostgresOptions, transaction: Transaction, binding: Binding, ledger: Ledger) -> Look:
    horizon = await read_horizon(transaction)
    cursor, misfit = ledger.cursor, ""
    if cursor is not None:
        if not isinstance(cursor, dict) or not isinstance(cursor.get("seen"), list):
            misfit = "not a cursor by ids"
        elif cursor["database"] != horizon.database:
            misfit = "the database was made anew"
        elif cursor["since"] > horizon.now + options.finished.overlap and not horizon.standby:
            misfit = "the server's clock is behind the cursor"
    start = cursor is None or bool(misfit)
    since = (horizon.now if start else float(cursor["since"])) - options.finished.overlap
    known = None if start else cursor
    blanks = Blanks(schema=binding.schema, limit=options.max_count + 1, since=since)
    await _guard(options, transaction, binding, blanks)
    (one,) = binding.statements
    finished = one.query(blanks)
    floor = known["floor"] if known else None
    query = sql.SQL("SELECT * FROM ({}) AS finished{} LIMIT {}").format(
        finished,
        sql.SQL("")
        if floor is None
        else sql.SQL(" WHERE (finished_at > {}) IS NOT FALSE").format(sql.Literal(floor)),  # NULL: at infinity
        sql.Literal(MAX_IDS + 1),
    )
    rows = await _fetch(transaction, one, query)
    if len(rows) > MAX_IDS:
        return replace(await _past_ids(transaction, ledger, one, finished, known, horizon), misfit=misfit)
    # an id alone is not unique in a view, and a job that ran again ended at another time;
    # every later window begins later, so what this one shows is all that must be remembered
    seen = {(key, ended) for *_, key, ended, _ in rows if key is not None}
    before = {(key, ended) for key, ended in known["seen"]} if known else seen
    new = [
        (
            outcome,
            queue,
            task,
            None if run is None else bisect_left(ledger.run_bounds, run),
            None if wait is None else bisect_left(ledger.wait_bounds, wait),
            1,
            run,
            wait,
        )
        for outcome, queue, task, run, wait, key, ended, _ in rows
        if key is not None and (key, ended) not in before
    ]
    state = {"since": horizon.now, "floor": floor, "seen": list(seen), "database": horizon.database}
    return Look(state, 0.0, [(one, new)], misfit)


async def _past_ids(
    transaction: Transaction,
    ledger: Ledger,
    one: BoundStatement,
    finished: sql.Composable,
    cursor: dict[str, Any] | None,
    horizon: Horizon,
) -> Look:
    """More jobs ended than can be remembered: count by time what ended after all that was seen, and begin anew."""
    now = horizon.now
    state = {"since": now, "floor": now, "seen": [], "database": horizon.database}
    if cursor is None:
        return Look(state, 0.0)
    ends = [ended for _, ended in cursor["seen"] if ended is not None and ended <= now]
    last = max([*ends, *([] if cursor["floor"] is None else [cursor["floor"]])], default=None)
    part = sql.SQL("SELECT * FROM ({}) AS finished WHERE key IS NOT NULL AND finished_at <= {}{}").format(
        finished,
        sql.Literal(now),
        sql.SQL("") if last is None else sql.SQL(" AND finished_at > {}").format(sql.Literal(last)),
    )
    rows = await _totals(transaction, ledger, one, part)
    # clocks ahead: what was counted and ended after `now` is found again
    state["seen"] = [(key, ended) for key, ended in cursor["seen"] if ended is None or ended > now]
    return Look(state, 0.0, [(one, rows)], gap=True)


# --- by totals that the server keeps


async def _by_totals(options: PostgresOptions, transaction: Transaction, binding: Binding, ledger: Ledger) -> Look:
    """Differences of totals; one that is smaller than before began anew."""
    horizon = await read_horizon(transaction)
    if horizon.standby:  # the server's statistics are the primary's own
        raise AdapterError(Reason.UNSUPPORTED, "a standby has no statistics of its own: name the primary in the URL")
    cursor, misfit = ledger.cursor, ""
    if cursor is not None:
        if not isinstance(cursor, dict) or not isinstance(cursor.get("totals"), list):
            misfit = "not a cursor by totals"
        elif cursor["database"] != horizon.database:
            misfit = "the database was made anew"
    blanks = Blanks(schema=binding.schema, limit=options.max_count + 1)
    await _guard(options, transaction, binding, blanks)
    before = {tuple(key): total for *key, total in cursor["totals"]} if cursor is not None and not misfit else None
    totals: dict[tuple[Any, ...], int] = {}
    found: list[tuple[BoundStatement, Rows]] = []
    for one in binding.statements:
        query = sql.SQL("SELECT * FROM ({}) AS s LIMIT {}").format(one.query(blanks), sql.Literal(MAX_GROUPS))
        new: list[tuple[Any, ...]] = []
        for *labels, total in await _fetch(transaction, one, query):
            names = labels[:3]  # of finished: outcome, queue, task; else queue, task and, where there is one, priority
            key = (one.kind, one.name, *names)
            totals[key] = totals.get(key, 0) + (total or 0)
            if before is None:
                continue
            more = totals[key] - before.get(key, 0)
            n = more if more >= 0 else totals[key]
            new.append((*names, None, None, n, None, None) if one.kind == "finished" else (*names, n))
        found.append((one, [row for row in new if row[5 if one.kind == "finished" else -1]]))
    state = {"totals": [[*key, total] for key, total in totals.items()], "database": horizon.database}
    return Look(state, 0.0, found, misfit)


# --- asking


async def first_blanks(options: PostgresOptions, transaction: Transaction, binding: Binding) -> Blanks:
    """What the placeholders become at a first look. Raises AdapterError."""
    horizon = await read_horizon(transaction)
    return _XidState.start(horizon, await _highest_ids(transaction, binding)).blanks(options, binding, horizon)


async def _optional(
    transaction: Transaction, ledger: Ledger, binding: Binding, one: BoundStatement, blanks: Blanks
) -> Rows:
    """As _totals(); an optional statement that fails is left out, and the others go on."""
    if not one.optional:
        return await _totals(transaction, ledger, one, one.query(blanks))
    try:
        async with transaction.savepoint():
            return await _totals(transaction, ledger, one, one.query(blanks))
    except AdapterError as error:
        if error.reason not in OF_ONE:
            raise
        binding.leave_out(one, error)
        needed(binding)
        return ()


async def _totals(transaction: Transaction, ledger: Ledger, one: BoundStatement, query: sql.Composable) -> Rows:
    """Rows of finished_totals() or event_counts(), under `_other` what has too many names: tasks first, then queues.

    Every event is counted: a number of names that is refused once would be refused for ever.
    """
    rows: Rows = ()
    for labels in _LABELS:
        if one.kind == "finished":
            bounds = {"run_bounds": ledger.run_bounds, "wait_bounds": ledger.wait_bounds}
            totals = finished_totals(query, **bounds, labels=labels)
        else:
            totals = event_counts(query, priority=one.kind == "enqueued", labels=labels)
        rows = await _fetch(transaction, one, totals)
        if len(rows) <= MAX_GROUPS:
            break
    return rows


async def _fetch(transaction: Transaction, one: BoundStatement, query: sql.Composable) -> list[tuple[Any, ...]]:
    try:
        return await transaction.fetch(one.name, query, doing=one.doing)
    except AdapterError as error:
        raise advised(one, error) from None
