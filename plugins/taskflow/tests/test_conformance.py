"""The adapter contract, for a source on two servers that freeze and stop together; and the world of known tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from taskflow_project import TABLES, TaskFlow, clock, url_in_a_file

from taskq_exporter.testing import AdapterConformance, Server, World, start_postgres, start_redis
from taskq_exporter.testing.stores import PostgresStore, RedisStore


class Both(Server):
    """Two servers as one."""

    def __init__(self, database: Server, redis: Server) -> None:
        super().__init__(name="taskflow", url=database.url, kind=database.kind, version=database.version)
        self.servers = (database, redis)

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def freeze(self) -> None:
        for server in self.servers:
            server.freeze()

    def thaw(self) -> None:
        for server in self.servers:
            server.thaw()


def fill(flow: TaskFlow) -> None:
    """One of everything."""
    flow.create("mail", 9)
    parent = flow.create("mail", 8)
    flow.row("mail", 10)  # its entry never came to Redis
    flow.create("report", 5)
    flow.create("chart", 4, depends_on=[parent])
    flow.create("mail", 7, scheduled_at=clock(3600))
    flow.create("clean", 6, scheduled_at=clock(7200), cron_expression="0 * * * *", is_recurring=1)
    flow.create("mail", 5, scheduled_at=clock(-20))  # the scheduler has 60 s to move it
    flow.row("mail", 5, status="SCHEDULED", scheduled_at=clock(3600))  # of a campaign
    flow.row("mail", 1, status="RETRYING", next_retry_at=clock(600))
    flow.row("slow", 2, status="RUNNING", started_at=clock(-60))
    flow.row("mail", 2, status="COMPLETED", started_at=clock(-60), completed_at=clock())
    flow.bury(flow.row("mail", 2, status="FAILED"))
    flow.register("w1", load=1)
    flow.register("w2", "PAUSED", capacity=2)
    flow.register("w3", beat=60)
    flow.measure(
        "w1",
        total_tasks=7,
        total_errors=2,
        total_duration=12.5,
        restart_count=2,
        start_time="2026-01-01T00:00:00+00:00",
    )
    flow.campaign("spring", "RUNNING")
    flow.campaign("winter", "COMPLETED")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_postgres() as database, start_redis("--appendonly", "yes") as redis:
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(TABLES)
        with TaskFlow(database.url, redis.url) as flow:
            fill(flow)
        file = url_in_a_file(tmp_path_factory.mktemp("secrets") / "redis", redis.url)

        def work() -> None:
            with TaskFlow(database.url, redis.url) as flow:
                flow.complete(flow.take("high"))
                flow.complete(flow.take("high"))
                flow.fail(flow.take("medium"))
                flow.cancel(flow.create("mail", 1))

        def grant(text: str) -> str:
            statements, acl = text.split("\n\n")
            url_in_a_file(file, RedisStore().grant(redis.url, acl))
            return PostgresStore().grant(database.url, statements)

        yield World(
            url=database.url,
            server=Both(database, redis),
            options={"redis_url_file": str(file), "poll_interval": "100ms"},
            tasks={
                "high": {"ready": 2, "scheduled": 0, "retry": 0, "blocked": 0, "running": 0},
                "medium": {"ready": 2, "scheduled": 3, "retry": 0, "blocked": 1, "running": 0},
                "low": {"ready": 0, "scheduled": 0, "retry": 1, "blocked": 0, "running": 1},
            },
            series={
                'taskq_tasks_overdue{queue="medium"}': 1,
                'taskq_tasks_overdue{queue="high"}': 0,
                'taskq_taskflow_waiting_rows{queue="high"}': 3,
                'taskq_taskflow_waiting_rows{queue="medium"}': 1,
                'taskq_taskflow_waiting_rows{queue="low"}': 0,
                "taskq_taskflow_scheduled_entries": 3,
                'taskq_taskflow_dead_letters{pile="tasks:dlq"}': 1,
                'taskq_taskflow_dead_letters{pile="dead_letter_queue"}': 0,
                'taskq_taskflow_campaigns{status="running"}': 1,
                'taskq_taskflow_campaigns{status="draft"}': 0,
                'taskq_workers{state="busy"}': 1,
                'taskq_workers{state="paused"}': 1,
                'taskq_workers{state="offline"}': 1,
                'taskq_worker_up{worker="w3"}': 0,
                'taskq_worker_slots{worker="w2"}': 2,
                'taskq_worker_tasks{worker="w1",state="running"}': 1,
                'taskq_worker_tasks_finished_total{worker="w1",outcome="succeeded"}': 5,
                'taskq_worker_tasks_finished_total{worker="w1",outcome="failed"}': 2,
                'taskq_worker_busy_seconds_total{worker="w1"}': 12.5,
                'taskq_worker_restarts_total{worker="w1"}': 1,
                'taskq_worker_start_timestamp_seconds{worker="w1"}': 1767225600,
                'taskq_scheduler_up{scheduler="scheduler"}': 1,
                'taskq_scheduler_entries{scheduler="scheduler"}': 1,
            },
            work=work,
            finished={
                ("high", "mail", "succeeded"): 2,
                ("medium", "report", "failed"): 1,
                ("low", "mail", "cancelled"): 1,
            },
            dump=lambda: (PostgresStore().dump(database.url), RedisStore().dump(redis.url)),
            grant=grant,
        )


class TestConformance(AdapterConformance):
    adapter = "taskflow"
    golden = Path(__file__).with_name("golden.prom")

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded

    def test_no_secret(self, world: World) -> None:
        """No password is told. The kit spoils the database's URL: for the source to be down, Redis is away too."""
        file = Path(world.options["redis_url_file"])
        url = file.read_text("utf-8")
        url_in_a_file(file, "redis://:hunter2-of-the-kit@127.0.0.1:1/0")
        try:
            super().test_no_secret(world)
        finally:
            url_in_a_file(file, url.strip())
