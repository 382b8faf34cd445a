"""What `check` says of a source: rights, statements, indexes, time zones, row-level security."""

from __future__ import annotations

from psycopg import sql
from taskq_exporter_sql import SqlClient, TableName, Transaction, describe, read_only

from taskq_exporter.api import AdapterError, Finding, Outcome, Source, State
from taskq_exporter_postgres.bind import bind_statements
from taskq_exporter_postgres.bind_table import (
    FINISHED_ROLES,
    JOB_TIMES,
    LIVE_ROLES,
    bind_jobs,
    bind_table,
    bind_workers,
)
from taskq_exporter_postgres.bound import Binding, guarded
from taskq_exporter_postgres.options import LIVE, PostgresOptions, Table
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.preset import COLLECTED, FOLLOWED
from taskq_exporter_postgres.statements import index_advice
from taskq_exporter_postgres.windows import first_blanks

__all__ = ["diagnose"]

_INDEXES = """
SELECT coalesce(a.attname, ''), coalesce(pg_get_expr(i.indpred, i.indrelid), '')
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE n.nspname = {schema} AND c.relname = {name} AND i.indisvalid
"""


async def diagnose(source: Source, client: SqlClient) -> list[Finding]:
    """Findings about what is configured. Raises AdapterError where the server cannot be read at all."""
    options: PostgresOptions = source.options
    if options.table is not None:
        return await _diagnose_table(source, client, options.table)
    return await _diagnose_statements(source, client)


async def _diagnose_statements(source: Source, client: SqlClient) -> list[Finding]:
    options: PostgresOptions = source.options
    kinds = (*COLLECTED, *FOLLOWED)
    async with read_only(client, timeout=source.timeout) as transaction:
        try:
            binding = await bind_statements(transaction, options, kinds)
        except AdapterError as error:
            return [Finding(level="problem", text=str(error))]
        blanks = await first_blanks(options, transaction, binding)
        await guarded(transaction, binding, blanks, kinds, allow_seq_scan=options.allow_seq_scan)
        await binding.look_for_kept(transaction, blanks)
    findings = [Finding(level="ok", text=f"{one.doing} fits") for one in binding.statements]
    findings += _of_plans(binding, options)
    findings += [Finding(level="problem", text=problem.message) for problem in binding.problems]
    findings += [
        Finding(level="note", text=f"{one.doing}: no job is seen to stay after its end", advice=one.kept_otherwise)
        for one in binding.of("finished")
        if one.kept and not binding.kept[one.name]
    ]
    preset = options.preset_model
    if preset and preset.notes:
        findings.append(Finding(level="note", text=preset.notes))
    return findings


def _of_plans(binding: Binding, options: PostgresOptions) -> list[Finding]:
    """What an index more would give."""
    findings = []
    for one in binding.statements:
        if one.spread_index and one.spread is None:
            hides = f"where more than max_count ({options.max_count}) wait, one queue hides others"
            text = f"{one.doing}: {hides}: no index leads from queue to queue"
            findings.append(Finding(level="note", text=text, advice=one.spread_index))
        elif one.unordered and one.index:
            text = f"{one.doing}: counting costs about twice what it would with an index by queue and priority"
            findings.append(Finding(level="note", text=text, advice=one.index))
    return findings


async def _diagnose_table(source: Source, client: SqlClient, table: Table) -> list[Finding]:
    options: PostgresOptions = source.options
    workers = options.workers
    names = [table.table_name, *([workers.table_name] if workers else [])]
    async with read_only(client, timeout=source.timeout) as transaction:
        found = await describe(transaction, names)
        plans = await _plans(source, transaction, options)
        indexes = await transaction.fetch("indexes", _of(table.table_name, _INDEXES), doing="reading the catalogs")
    findings = []
    try:
        jobs = bind_jobs(options, found, LIVE_ROLES)
        findings.append(Finding(level="ok", text=f"{table.table_name}: the live jobs can be read"))
        if options.outcomes:
            jobs = bind_jobs(options, found, FINISHED_ROLES, needs_xmin=options.finished.mode == "xid")
            findings.append(Finding(level="ok", text=f"{table.table_name}: finished jobs can be counted"))
        if workers_table := bind_workers(options, found):
            findings.append(Finding(level="ok", text=f"{names[-1]}: the workers can be read"))
    except AdapterError as error:
        return [*findings, Finding(level="problem", text=str(error))]
    naive = [jobs.columns[role] for role in JOB_TIMES if jobs.has(role) and jobs.is_naive(role)]
    if naive:
        text = f"{', '.join(naive)}: times without time zone are read as {table.naive_timezone}"
        findings.append(Finding(level="note", text=text, advice="set table.naive_timezone to what the writers mean"))
    for bound in (jobs, workers_table):
        try:
            if bound:
                bound.need_all_rows()
        except AdapterError as error:
            findings.append(Finding(level="problem", text=str(error)))
    has_indexes = found[table.table_name].kind in "rpm"
    if not has_indexes:
        return findings
    findings += _index_findings(options, table, indexes)
    advised = {finding.advice for finding in findings}
    return findings + [finding for finding in plans if finding.advice not in advised]


def _index_findings(options: PostgresOptions, table: Table, indexes: list[tuple[str, str]]) -> list[Finding]:
    """One finding for each state that no index finds: (first column, predicate) of those that are there."""
    columns = table.columns
    roles: list[State | Outcome] = [*(s for s in LIVE if table.words(s)), *options.outcomes[:1]]
    findings = []
    for role in roles:
        if isinstance(role, Outcome):
            served = any(first == columns.finished_at for first, _ in indexes)
        else:
            served = all(any(_names(where, word) for _, where in indexes) for word in table.words(role)) or any(
                first == columns.state and not where for first, where in indexes
            )
        if not served:
            what = "finished jobs" if isinstance(role, Outcome) else f"{role.value} jobs"
            text = f"no index of {table.table_name} finds {what}: each look reads the whole table"
            findings.append(Finding(level="note", text=text, advice=index_advice(table, role)))
    return findings


async def _plans(source: Source, transaction: Transaction, options: PostgresOptions) -> list[Finding]:
    """Of the live jobs of a described table; nothing where it does not fit, which is said elsewhere."""
    try:
        binding = await bind_table(transaction, options, COLLECTED, worker_ttl=source.worker_ttl)
    except AdapterError:
        return []
    blanks = Blanks(schema=binding.schema, limit=options.max_count + 1)
    await guarded(transaction, binding, blanks, COLLECTED, allow_seq_scan=options.allow_seq_scan)
    return _of_plans(binding, options)


def _names(predicate: str, word: str) -> bool:
    return f"'{word}'" in predicate or f"= {word})" in predicate  # as pg_get_expr() writes text and numbers


def _of(name: TableName, query: str) -> sql.Composable:
    return sql.SQL(query).format(schema=sql.Literal(name.schema), name=sql.Literal(name.name))
