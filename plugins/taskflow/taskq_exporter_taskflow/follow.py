"""What ended: rows of `tasks` by the transaction that wrote them, looked for on a timer."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from taskq_exporter_sql import (
    MAX_GROUPS,
    SqlClient,
    Transaction,
    XidCursor,
    count_finished,
    finished_totals,
    read_horizon,
    read_only,
)

from taskq_exporter.api import AdapterError, Ledger, Outcome, Source
from taskq_exporter_taskflow.client import Client
from taskq_exporter_taskflow.names import QUEUES
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.statements import ended
from taskq_exporter_taskflow.tables import guard, look

__all__ = ["follow", "step"]

#: A step rests for this many times its own duration.
IDLE_SHARE = 20
#: What is counted by, until the groups are few enough.
_LABELS: Final[tuple[tuple[Literal["queue", "task"], ...], ...]] = (("queue", "task"), ("queue",))


async def follow(source: Source, client: Client, ledger: Ledger) -> None:
    """Count what ends until cancelled. Raises AdapterError as the database."""
    options: TaskflowOptions = source.options
    clock = asyncio.get_running_loop().time
    while True:
        started = clock()
        await step(source, client.database(), ledger)
        took = clock() - started
        await asyncio.sleep(max(options.poll_interval, IDLE_SHARE * took) - took)


async def step(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """One look at what ended since the last one.

    Raises:
        AdapterError: Of any reason; nothing is counted then, and the next look finds the same rows.
    """
    options: TaskflowOptions = source.options
    try:
        async with read_only(client, timeout=source.timeout) as transaction:
            layout = await look(client, transaction, options)
            horizon = await read_horizon(transaction)
            cursor, misfit = XidCursor.start(horizon), ""
            try:
                cursor = cursor if ledger.cursor is None else XidCursor.load(ledger.cursor)
                misfit = cursor.misfit(horizon)
            except ValueError as error:
                misfit = str(error)
            if misfit:
                cursor = XidCursor.start(horizon)
            query = ended(options, cursor, horizon, by_update=layout.by_update)
            await guard(transaction, layout, options, {"ended": query})
            if "ended" in layout.refused:
                raise layout.refused["ended"]
            behind = horizon.oldest < cursor.oldest  # a standby that is behind the server asked before
            new = horizon.oldest > cursor.oldest
            rows = await _rows(transaction, ledger, query) if new else []
    except AdapterError:
        client.memory.clear()  # the tables may have changed: look at the catalogs again
        raise
    counted = [(Outcome(outcome), *rest) for outcome, *rest in rows]
    # from here on no await: counts and cursor change together
    ledger.counts("finished")
    if misfit:
        ledger.start_over(misfit)
    if not behind:
        cursor = cursor.advance(horizon)
        ledger.cursor = cursor.dump()
    count_finished(counted, ledger, list(QUEUES)[-1])
    ledger.commands(transaction.commands)
    ledger.following(None if behind else cursor.lag(horizon))


async def _rows(transaction: Transaction, ledger: Ledger, query: Any) -> list[tuple[Any, ...]]:
    """Rows of finished_totals(), all tasks as `_other` where they have too many names."""
    rows: list[tuple[Any, ...]] = []
    for labels in _LABELS:
        totals = finished_totals(query, run_bounds=ledger.run_bounds, wait_bounds=ledger.wait_bounds, labels=labels)
        rows = await transaction.fetch("ended", totals, doing="statement ended")
        if len(rows) <= MAX_GROUPS:
            break
    return rows
