"""A source's statements as they fit the database, remembered for as long as nothing fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskq_exporter_sql import SqlClient, Transaction

from taskq_exporter.api import Source
from taskq_exporter_postgres.bind import bind_statements, tables_like
from taskq_exporter_postgres.bind_table import bind_table
from taskq_exporter_postgres.bound import Binding
from taskq_exporter_postgres.options import PostgresOptions

__all__ = ["bind"]

#: Seconds after which catalogs and plans are looked at again, though nothing failed.
LOOK_AGAIN = 3600.0
_REMEMBERED = "binding"


async def bind(source: Source, client: SqlClient, transaction: Transaction, kinds: Sequence[str]) -> Binding:
    """The source's statements of these kinds; one client binds the same kinds each time.

    The catalogs are looked at at start, hourly and after errors: those of a described table each time, for what it
    lacks would be counted as none. Tables that come and go with queues are looked for each time. Raises AdapterError.
    """
    options: PostgresOptions = source.options
    now = asyncio.get_running_loop().time()
    known: Binding | None = client.memory.get(_REMEMBERED)
    if known is not None and now - known.bound_at >= LOOK_AGAIN:
        known = None
    if options.table is not None:
        binding = await bind_table(transaction, options, kinds, worker_ttl=source.worker_ttl)
        binding.guarded = known is not None and known.guarded and not binding.problems
        binding.in_order = known.in_order if known is not None and binding.guarded else frozenset()
    elif known is not None and frozenset(await tables_like(transaction, known.schema, options.patterns)) == known.each:
        return known
    else:
        binding = await bind_statements(transaction, options, kinds)
    binding.bound_at = known.bound_at if known is not None and binding.guarded else now
    client.memory[_REMEMBERED] = binding
    return binding
