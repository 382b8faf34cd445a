"""Preset pgmq, with upstream's own SQL as the Python client brings it: tables for each queue."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.follow import step

from taskq_exporter.api import Reason, Snapshot, Source, State
from taskq_exporter.testing import AdapterConformance, World, start_postgres

pytestmark = pytest.mark.newest

Admin = psycopg.Connection[Any]


def install(url: str) -> None:
    run(url, (resources.files("pgmq") / "sql" / "pgmq.sql").read_text("utf-8"))
    run(url, "SELECT pgmq.create('emails'); SELECT pgmq.create('images'); SELECT pgmq.create('empty')")


def run(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements.encode())


FILL = """
SELECT pgmq.send('emails', '{"secret": 1}') FROM generate_series(1, 5);
SELECT pgmq.send('emails', '{}', 3600);
SELECT pgmq.read('emails', 3600, 2);
SELECT pgmq.send('images', '{}');
"""
WORK = """
SELECT pgmq.archive('emails', msg_id) FROM pgmq.read('emails', 60, 3);
SELECT pgmq.archive('images', msg_id) FROM pgmq.read('images', 60, 1);
"""


@pytest.fixture(scope="module")
def seeded() -> Iterator[World]:
    with start_postgres() as server:
        install(server.url)
        run(server.url, FILL)
        none = {"ready": 0, "scheduled": 0, "running": 0}
        yield World(
            url=server.url,
            server=server,
            options={"preset": "pgmq", "poll_interval": "100ms"},
            tasks={"emails": {"ready": 3, "scheduled": 1, "running": 2}, "images": {**none, "ready": 1}, "empty": none},
            series={'taskq_oldest_task_age_seconds{queue="empty",state="ready"}': 0},
            work=lambda: run(server.url, WORK),
            finished={("emails", "", "succeeded"): 3, ("images", "", "succeeded"): 1},
        )


class TestConformance(AdapterConformance):
    adapter = "postgres"

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded


async def test_queues_come_and_go(admin: Admin, postgres_dsn: str, make_source: Any, make_ledger: Any) -> None:
    install(postgres_dsn)
    source: Source = make_source(None, preset="pgmq")
    ledger = make_ledger()

    def ready(snapshot: Snapshot) -> dict[str, int]:
        return {q.name: q.tasks[State.READY] for q in snapshot.queues}

    async with connect(source) as client, connect(source) as other:
        assert ready(await collect(source, client)) == {"emails": 0, "images": 0, "empty": 0}
        await step(source, other, ledger)
        admin.execute("SELECT pgmq.create('new'); SELECT pgmq.send('new', '{}'); SELECT pgmq.drop_queue('empty')")
        snapshot = await collect(source, client)
        assert ready(snapshot) == {"emails": 0, "images": 0}, "what may not be read is not known"
        ((problem),) = snapshot.problems
        assert (problem.reason, snapshot.queues_complete) == (Reason.PERMISSION, False)
        assert 'GRANT SELECT ("msg_id", "read_ct", "vt") ON "pgmq"."q_new" TO taskq_exporter;' in problem.message
        make_source(None, preset="pgmq")  # grants again
        assert ready(await collect(source, client)) == {"emails": 0, "images": 0, "new": 1}
        await step(source, other, ledger)
        admin.execute("SELECT pgmq.archive('new', 1::bigint)")
        await step(source, other, ledger)
    assert ledger.totals == {("new", "", "succeeded"): 1}


async def test_a_full_queue_is_capped_alone(admin: Admin, postgres_dsn: str, make_source: Any) -> None:
    install(postgres_dsn)
    admin.execute("SELECT pgmq.send('emails', '{}') FROM generate_series(1, 9); SELECT pgmq.send('images', '{}')")
    source: Source = make_source(None, preset="pgmq", max_count=5)
    async with connect(source) as client:
        queues = {q.name: q for q in (await collect(source, client)).queues}
    assert {name: (q.tasks[State.READY], bool(q.capped)) for name, q in queues.items()} == {
        "emails": (6, True),
        "images": (1, False),
        "empty": (0, False),
    }
