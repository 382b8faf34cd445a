"""A count that stops at its limit counts some jobs of each queue: statements given as text, and presets."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from taskq_exporter_postgres.adapter import collect, connect, diagnose

from taskq_exporter.api import Snapshot, Source, State

Admin = psycopg.Connection[Any]
SQL = {
    "jobs": {
        "ready": {
            "sql": "SELECT queue, count(*) AS n FROM (SELECT queue FROM {schema}.jobs AS j"
            " WHERE state = 'queued' AND {queue:j.queue} LIMIT {limit}) AS j GROUP BY 1",
            "spread": {
                "table": "jobs",
                "column": "queue",
                "where": "state = 'queued'",
                "index": "CREATE INDEX ON {schema}.jobs (queue) WHERE state = 'queued';",
            },
        }
    }
}
#: As delayed_job_active_record makes it.
DELAYED = """
CREATE TABLE delayed_jobs (
    id bigserial PRIMARY KEY, priority integer NOT NULL DEFAULT 0, attempts integer NOT NULL DEFAULT 0,
    handler text NOT NULL, last_error text, run_at timestamp, locked_at timestamp, failed_at timestamp, locked_by text,
    queue text, created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX delayed_jobs_priority ON delayed_jobs (priority, run_at);
INSERT INTO delayed_jobs (handler, run_at, queue) SELECT '', now() - interval '1 h',
    CASE WHEN n = 1 THEN NULL WHEN n < 4 THEN 'quiet' ELSE 'busy' END FROM generate_series(1, 500) AS n;
"""


async def collect_once(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


def ready(snapshot: Snapshot) -> dict[str, float]:
    assert snapshot.problems == []
    return {q.name: q.tasks[State.READY] for q in snapshot.queues}


async def test_a_backlog_hides_no_other_queue(jobs: Admin, make_source: Any) -> None:
    jobs.execute("INSERT INTO jobs (queue) SELECT 'a' FROM generate_series(1, 500)")
    jobs.execute("INSERT INTO jobs (queue) VALUES ('b'), ('b'), (NULL); DROP INDEX jobs_queued")
    source = make_source(None, sql=SQL, max_count=99)
    jobs.execute("GRANT SELECT ON jobs TO taskq_exporter; GRANT USAGE ON SCHEMA public TO taskq_exporter; ANALYZE jobs")
    snapshot = await collect_once(source)
    assert sum(ready(snapshot).values()) == 100, "no index leads from queue to queue: it stays as it is"
    async with connect(source) as client:
        (note,) = [f for f in await diagnose(source, client) if f.level == "note"]
    assert "jobs.ready" in note.text
    jobs.execute(note.advice)
    jobs.execute("ANALYZE jobs")
    async with connect(source) as client:
        assert [f for f in await diagnose(source, client) if f.level == "note"] == []
        for _ in range(2):
            snapshot = await collect(source, client)
            assert ready(snapshot) == {"a": 50, "b": 2, "sql": 1}
            assert all(q.capped == {State.READY: True} for q in snapshot.queues)
            assert not snapshot.queues_complete
    assert snapshot.commands == 3, "it is known to be full: nothing is asked for twice"


@pytest.mark.parametrize("limit", [500, 99])
async def test_a_preset_says_the_same_of_each_queue(admin: Admin, make_source: Any, limit: int) -> None:
    admin.execute(DELAYED)
    source = make_source(None, preset="delayed-job", max_count=limit)
    async with connect(source) as client:
        (note,) = [f.advice for f in await diagnose(source, client) if "jobs.waiting" in f.text and f.advice]
    admin.execute(note)
    admin.execute("VACUUM ANALYZE delayed_jobs")
    snapshot = await collect_once(source)
    assert ready(snapshot) == {"busy": 497 if limit == 500 else 50, "quiet": 2, "default": 1}
    assert all(q.oldest_age[State.READY] == pytest.approx(3600, abs=120) for q in snapshot.queues)


async def test_an_index_that_leads_through_history_is_not_taken(jobs: Admin, make_source: Any) -> None:
    """It leads from queue to queue too, but then through all that was ever in one."""
    jobs.execute("ALTER TABLE jobs SET (autovacuum_enabled = off); DROP INDEX jobs_queued")
    jobs.execute("CREATE INDEX ON jobs (queue); CREATE INDEX ON jobs (id) WHERE state = 'queued'")
    jobs.execute(
        "INSERT INTO jobs (queue, state) SELECT 'q' || n % 5, CASE WHEN n % 100 = 0 THEN 'queued' ELSE 'done' END"
        " FROM generate_series(1, 100000) AS n"
    )
    source = make_source(None, sql=SQL, max_count=99)
    jobs.execute("GRANT SELECT ON jobs TO taskq_exporter; GRANT USAGE ON SCHEMA public TO taskq_exporter")
    jobs.execute("VACUUM ANALYZE jobs")
    assert sum(ready(await collect_once(source)).values()) == 100
