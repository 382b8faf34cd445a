"""The adapter contract, with the jobs table of the other tests and real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from taskq_exporter.testing import AdapterConformance, Server, World

FILL = """
INSERT INTO jobs (queue, kind, state, priority, attempts, run_at, started_at, finished_at, locked_by) VALUES
    ('emails', 'mail', 'queued', 5, 0, NULL, NULL, NULL, NULL),
    ('emails', 'mail', 'queued', 0, 0, NULL, NULL, NULL, NULL),
    ('emails', 'mail', 'queued', 0, 0, now() + interval '1 h', NULL, NULL, NULL),
    ('emails', 'mail', 'queued', 0, 2, now() + interval '1 h', NULL, NULL, NULL),
    ('billing', 'bill', 'active', 0, 0, NULL, now(), NULL, 'w1'),
    ('billing', 'bill', 'done', 0, 0, NULL, now(), now(), 'w1');
INSERT INTO workers VALUES ('w1', now(), 4), ('w2', now(), 2);
"""
WORK = """
UPDATE jobs SET state = 'active', started_at = clock_timestamp(), locked_by = 'w2'
WHERE state = 'queued' AND run_at IS NULL;
UPDATE jobs SET state = 'done', finished_at = clock_timestamp() WHERE locked_by = 'w2';
UPDATE jobs SET state = 'error', finished_at = clock_timestamp() WHERE state = 'active' AND locked_by = 'w1';
"""


class TestConformance(AdapterConformance):
    adapter = "postgres"
    golden = Path(__file__).with_name("golden.prom")

    @pytest.fixture
    def world(self, postgres_own: Server, jobs_ddl: str, table: dict[str, Any], workers: dict[str, Any]) -> World:
        def run(statements: str) -> None:
            with psycopg.connect(postgres_own.url, autocommit=True) as connection:
                connection.execute(statements)  # type: ignore[arg-type]

        def work() -> None:
            for statement in WORK.split(";"):
                run(statement)

        run(jobs_ddl)
        run(FILL)
        return World(
            url=postgres_own.url,
            server=postgres_own,
            options={"table": table, "workers": workers, "poll_interval": "100ms"},
            tasks={"emails": {"ready": 2, "scheduled": 1, "retry": 1, "running": 0}, "billing": {"running": 1}},
            series={
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="5"}': 1,
                'taskq_tasks_by_priority{queue="emails",state="ready",priority="0"}': 1,
                'taskq_workers{state="busy"}': 1,
                'taskq_workers{state="idle"}': 1,
                'taskq_worker_up{worker="w1"}': 1,
                'taskq_worker_slots{worker="w2"}': 2,
            },
            work=work,
            finished={("emails", "mail", "succeeded"): 2, ("billing", "bill", "failed"): 1},
        )
