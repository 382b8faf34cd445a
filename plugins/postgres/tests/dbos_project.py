"""Workflows and workers of DBOS, in processes of their own that import this and call run()."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient
from dbos import _migration as migration

READY = """
SELECT count(*) FROM dbos.workflow_status
WHERE status IN ('ENQUEUED', 'PENDING') AND queue_name IN ('emails', 'images', 'stuck')
"""


@DBOS.workflow(name="mail")
def mail() -> None:
    pass


@DBOS.workflow(name="boom")
def boom() -> None:
    raise ValueError("secret of a traceback")


@DBOS.workflow(name="nap")
def nap() -> None:
    time.sleep(3600)


def dsn(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def rows(url: str, query: str) -> list[Any]:
    engine = sa.create_engine(dsn(url))
    with engine.connect() as connection:
        found = list(connection.execute(sa.text(query)))
    engine.dispose()
    return found


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def launch(url: str, executor: str, *queues: str) -> DBOS:
    """A worker that reads these queues."""
    dbos = DBOS(
        config={
            "name": "tests",
            "system_database_url": dsn(url),
            "application_version": "1",
            "executor_id": executor,
            "log_level": "ERROR",
        }
    )
    DBOS.listen_queues(queues)
    DBOS.launch()
    return dbos


def old(url: str) -> None:
    """The library's tables before they had the time of a workflow's end; a workflow that ended."""
    every = migration.get_dbos_migrations
    migration.get_dbos_migrations = lambda *arguments: every(*arguments)[:20]
    engine = sa.create_engine(dsn(url))
    migration.ensure_dbos_schema(engine, "dbos")
    migration.run_dbos_migrations(engine, "dbos", use_listen_notify=True)
    ended = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name) VALUES ('1', 'ERROR', 'mail')"
    with engine.begin() as connection:
        connection.execute(sa.text(ended))
    engine.dispose()


def take(url: str) -> None:
    """Queues, and what an executor runs that is killed."""
    launch(url, "gone", "slow")
    for name in ("emails", "images", "slow", "later", "quiet", "stuck"):
        DBOS.register_queue(name, polling_interval_sec=0.1)
    client = DBOSClient(system_database_url=dsn(url))
    for _ in range(2):
        client.enqueue({"queue_name": "slow", "workflow_name": "nap"})
    DBOS.start_workflow(nap)
    until(lambda: rows(url, "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'")[0][0] == 3)


def fill(url: str) -> None:
    """A backlog, and a schedule that has run."""
    client = DBOSClient(system_database_url=dsn(url))
    for _ in range(3):
        client.enqueue({"queue_name": "emails", "workflow_name": "mail"})
    client.enqueue({"queue_name": "emails", "workflow_name": "mail", "priority": 7})
    for delay in (3600, 0.01):
        client.enqueue({"queue_name": "later", "workflow_name": "mail", "delay_seconds": delay})
    for _ in range(2):
        client.enqueue({"queue_name": "images", "workflow_name": "boom"})
    client.create_schedule(schedule_name="hourly", workflow_name="mail", schedule="0 * * * *")
    client._sys_db.update_last_fired_at("hourly", "2026-01-02T03:00:00+00:00")


def one(url: str) -> None:
    work(url, "one")


def two(url: str) -> None:
    work(url, "two")


def work(url: str, executor: str) -> None:
    """A worker, until nothing is left; the first one also ends workflows in other ways."""
    dbos = launch(url, executor, "emails", "images", "stuck")
    if executor == "one":
        client = DBOSClient(system_database_url=dsn(url))
        client.cancel_workflow(client.enqueue({"queue_name": "quiet", "workflow_name": "mail"}).workflow_id)
        client.enqueue({"queue_name": "stuck", "workflow_name": "nap", "workflow_timeout": 0.2})
        DBOS.start_workflow(mail).get_result()
        ((taken,), *_) = rows(url, "SELECT workflow_uuid FROM dbos.workflow_status WHERE queue_name = 'slow'")
        dbos._sys_db.dead_letter_workflows([taken], min_recovery_attempts=1)
    until(lambda: rows(url, READY)[0][0] == 0)


def run(function: str, url: str) -> None:
    """Run one of the functions above, and end the process as if it were killed: what runs stays."""
    try:
        {"old": old, "take": take, "fill": fill, "one": one, "two": two}[function](url)
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
