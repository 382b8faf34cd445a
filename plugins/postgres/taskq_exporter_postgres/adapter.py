"""The hooks of adapter `postgres`: a preset, or a jobs table of the user's own, described in the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from taskq_exporter_sql import SqlClient
from taskq_exporter_sql import connect as _connect

from taskq_exporter.api import Detected, Finding, Ledger, Options, Snapshot, Source, hookimpl
from taskq_exporter_postgres import collect as _collect
from taskq_exporter_postgres import detect as _detect
from taskq_exporter_postgres import diagnose as _diagnose
from taskq_exporter_postgres import follow as _follow
from taskq_exporter_postgres import grants as _grants
from taskq_exporter_postgres.options import PostgresOptions

__all__ = ["collect", "connect", "detect", "diagnose", "follow", "grants", "options"]


@hookimpl
def options() -> type[Options]:
    """The adapter's options."""
    return PostgresOptions


@hookimpl
def connect(source: Source) -> AbstractAsyncContextManager[SqlClient]:
    """A client for the source's URL."""
    return _connect(source)


@hookimpl
async def collect(source: Source, client: SqlClient) -> Snapshot:
    """What is true now."""
    return await _collect.collect(source, client)


@hookimpl
async def follow(source: Source, client: SqlClient, ledger: Ledger) -> None:
    """Count what ends."""
    await _follow.follow(source, client, ledger)


@hookimpl
async def detect(env: Mapping[str, str]) -> Iterable[Detected]:
    """Sources in the database that DATABASE_URL names."""
    return await _detect.detect(env)


@hookimpl
async def diagnose(source: Source, client: SqlClient) -> Iterable[Finding]:
    """What `check` says."""
    return await _diagnose.diagnose(source, client)


@hookimpl
def grants(source: Source) -> str:
    """SQL for the exporter's role."""
    return _grants.grants(source.options)
