"""What happened: looked for on a timer, each event counted once, and fed to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from taskq_exporter_sql import SqlClient, count_finished, read_only

from taskq_exporter.api import AdapterError, Ledger, Outcome, Reason, Source
from taskq_exporter_postgres.binding import bind
from taskq_exporter_postgres.bound import Binding, BoundStatement
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.preset import FOLLOWED
from taskq_exporter_postgres.windows import look, needed

__all__ = ["follow", "step"]

#: A step rests for this many times its own duration.
IDLE_SHARE = 20


async def follow(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """Count what happens until cancelled. Raises AdapterError as collect()."""
    options: PostgresOptions = source.options
    if not options.follows:
        ledger.following(None)
        await asyncio.Event().wait()  # nothing to count: an end would be taken for a failure
    clock = asyncio.get_running_loop().time
    while True:
        started = clock()
        await step(source, client, ledger)
        took = clock() - started
        await asyncio.sleep(max(options.poll_interval, IDLE_SHARE * took) - took)


async def step(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """One look at what happened since the last one.

    Raises:
        AdapterError: Of any reason; nothing is counted then, and the next look finds the same events.
    """
    options: PostgresOptions = source.options
    try:
        async with read_only(client, timeout=source.timeout) as transaction:
            binding = await bind(source, client, transaction, FOLLOWED)
            needed(binding)
            before, known = len(binding.dropped), binding.guarded
            found = await look(options, transaction, binding, ledger)
            await binding.look_for_kept(transaction, Blanks(schema=binding.schema, limit=options.max_count + 1))
    except BaseException:
        client.memory.clear()  # the tables may have changed: look at the catalogs again
        raise
    rows = [(one, _checked(one, row)) for one, rows in found.rows for row in rows]
    # from here on no await: counts and cursor change together
    ledger.counts(*_counted(binding))
    if found.misfit:
        ledger.start_over(found.misfit)
    if found.gap or len(binding.dropped) > (before if known else 0):  # what they would have counted is missing
        ledger.gap()
    _count(rows, ledger, binding.default_queue)
    ledger.cursor = found.cursor
    ledger.commands(transaction.commands)
    ledger.following(found.lag)


def _counted(binding: Binding) -> list[Literal["enqueued", "started", "retried", "succeeded", "failed"]]:
    what: list[Literal["enqueued", "started", "retried", "succeeded", "failed"]] = []
    outcomes = binding.begun
    what += ["succeeded"] if Outcome.SUCCEEDED in outcomes else []
    what += ["failed"] if Outcome.FAILED in outcomes else []
    what += ["retried"] if Outcome.RETRIED in outcomes else []
    what += ["started"] if binding.of("started") else []
    what += ["enqueued"] if binding.of("enqueued") else []
    return what


def _checked(one: BoundStatement, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row with an Outcome in it. Raises AdapterError(schema) where that is none that the statement tells."""
    if one.kind != "finished":
        return row
    word, *rest = row
    if word is None and len(one.outcomes) == 1:
        return (one.outcomes[0], *rest)
    for outcome in one.outcomes:
        if outcome == word:
            return (outcome, *rest)
    known = ", ".join(one.outcomes)
    raise AdapterError(Reason.SCHEMA, f"{one.doing} gives the outcome {word!r}; it tells {known}")


def _count(rows: Sequence[tuple[BoundStatement, tuple[Any, ...]]], ledger: Ledger, default_queue: str) -> None:
    """Feed rows to the ledger, one call for each of its label sets."""
    finished = []
    for one, row in rows:
        if one.kind == "started":
            queue, task, n = row
            ledger.started(queue or default_queue, task or "", n=n)
            ledger.events(n)
        elif one.kind == "enqueued":
            queue, task, priority, n = row
            ledger.enqueued(queue or default_queue, task or "", priority or "", n=n)
            ledger.events(n)
        else:
            finished.append(row)
    count_finished(finished, ledger, default_queue)
