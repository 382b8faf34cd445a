"""A standby is read like its primary, but for what a standby cannot show."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect
from taskq_exporter_postgres.follow import step
from taskq_exporter_postgres.options import PostgresOptions

from taskq_exporter.api import Reason, Source, State
from taskq_exporter.testing import Server

pytestmark = pytest.mark.newest

SQL = {
    "jobs": {"ready": "SELECT queue, count(*) AS n FROM public.jobs WHERE state = 'queued' GROUP BY 1"},
    "workers": {"all": {"sql": "SELECT id AS worker, true AS up FROM public.beats", "optional": True}},
    "finished": {"succeeded": "SELECT queue FROM public.jobs AS j WHERE finished_at > {since} AND {window:j}"},
}


async def test_unlogged_tables_are_a_part_that_is_missing(
    postgres_own: Server, jobs_ddl: str, make_ledger: Any
) -> None:
    with psycopg.connect(postgres_own.url, autocommit=True) as admin:
        admin.execute(jobs_ddl.encode())
        admin.execute("CREATE UNLOGGED TABLE beats (id text); INSERT INTO beats VALUES ('w1')")
        admin.execute("INSERT INTO jobs (queue) VALUES ('a'); COPY (SELECT) TO PROGRAM 'touch standby.signal'")
    options = PostgresOptions.model_validate({"sql": SQL})
    source = Source(name="s", adapter="postgres", url=lambda: postgres_own.url, options=options)
    async with connect(source) as client:
        assert [w.name for w in (await collect(source, client)).workers] == ["w1"]
    postgres_own.stop()
    postgres_own.start()
    ledger = make_ledger()
    async with connect(source) as client, connect(source) as other:
        for _ in range(2):
            snapshot = await collect(source, client)
            assert [(p.reason, p.part) for p in snapshot.problems] == [(Reason.UNSUPPORTED, "workers.all")]
            assert [q.tasks for q in snapshot.queues] == [{State.READY: 1}]
            assert snapshot.workers == []
            await step(source, other, ledger)
    assert (ledger.followed, ledger.totals) == (2, {})
