"""A source's statements as they fit the database, remembered for as long as nothing fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskq_exporter_sql import SqlClient, Transaction, marks

from taskq_exporter.api import Source
from taskq_exporter_postgres.bind import bind_statements, tables_like
from taskq_exporter_postgres.bind_table import bind_table, tables_of
from taskq_exporter_postgres.bound import Binding
from taskq_exporter_postgres.options import PostgresOptions

__all__ = ["bind"]

#: Seconds after which catalogs and plans are looked at again, though nothing failed.
LOOK_AGAIN = 3600.0
_REMEMBERED = "binding"


async def bind(source: Source, client: SqlClient, transaction: Transaction, kinds: Sequence[str]) -> Binding:
    """The source's statements of these kinds; one client binds the same kinds each time.

    The catalogs are looked at at start, hourly, after errors, and when they say that a described table has changed:
    what it lacks would be counted as none. Tables that come and go with queues are looked for each time. Raises
    AdapterError.
    """
    options: PostgresOptions = source.options
    now = asyncio.get_running_loop().time()
    known: Binding | None = client.memory.get(_REMEMBERED)
    if known is not None and now - known.bound_at < LOOK_AGAIN and known.there == await _there(transaction, options):
        return known
    if options.table is not None:
        binding = await bind_table(transaction, options, kinds, worker_ttl=source.worker_ttl)
    else:
        binding = await bind_statements(transaction, options, kinds)
    binding.there, binding.bound_at = await _there(transaction, options), now
    client.memory[_REMEMBERED] = binding
    return binding


async def _there(transaction: Transaction, options: PostgresOptions) -> tuple[str, ...]:
    if options.table is not None:
        return await marks(transaction, tables_of(options))
    return tuple(await tables_like(transaction, options.schema_name, options.patterns))
