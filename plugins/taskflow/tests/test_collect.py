"""What a collect says where something is missing, in either server; the truth is what was done to them."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from taskflow_project import TaskFlow, clock
from taskq_exporter_taskflow.adapter import collect, connect, diagnose

from taskq_exporter.api import AdapterError, QueueStats, Reason, Snapshot, Source, State, WorkerState
from taskq_exporter.testing.processes import free_port

NOWHERE = f"127.0.0.1:{free_port()}"


async def collected(source: Source) -> Snapshot:
    async with connect(source) as client:
        return await collect(source, client)


def queue_of(snapshot: Snapshot, name: str) -> QueueStats:
    return next(queue for queue in snapshot.queues if queue.name == name)


def values(snapshot: Snapshot, family: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in snapshot.samples if sample.family == f"taskq_taskflow_{family}"}


async def test_without_the_database_the_lists_are_told(flow: TaskFlow, make_source: Any) -> None:
    flow.create("mail", 9)
    flow.register("w1", load=2)
    snapshot = await collected(make_source(database=f"postgresql://nobody:s3cret@{NOWHERE}/none"))
    assert [(p.part, p.reason) for p in snapshot.problems] == [("database", Reason.CONNECT)]
    assert queue_of(snapshot, "high").tasks == {State.READY: 1}
    assert queue_of(snapshot, "high").oldest_age == {}
    assert queue_of(snapshot, "high").overdue is None
    assert [(w.name, w.up, w.state, w.slots, w.tasks) for w in snapshot.workers] == [
        ("w1", True, WorkerState.BUSY, 5, {"running": 2})
    ]
    assert not snapshot.schedulers
    assert not values(snapshot, "waiting_rows")
    assert "s3cret" not in str(snapshot)


async def test_without_redis_the_rows_are_told(flow: TaskFlow, make_source: Any) -> None:
    flow.create("mail", 9)
    flow.create("mail", 9)
    flow.take("high")
    flow.register("w1")
    snapshot = await collected(make_source(redis=f"redis://nobody:s3cret@{NOWHERE}/0"))
    assert [(p.part, p.reason) for p in snapshot.problems] == [("redis", Reason.CONNECT)]
    high = queue_of(snapshot, "high")
    assert high.tasks == {State.SCHEDULED: 0, State.RETRY: 0, State.BLOCKED: 0, State.RUNNING: 1}
    assert State.READY not in high.oldest_age
    assert values(snapshot, "waiting_rows")["high",] == 1
    assert [(w.name, w.up, w.state, w.busy_seconds) for w in snapshot.workers] == [("w1", True, WorkerState.IDLE, None)]
    assert not values(snapshot, "dead_letters")
    assert "s3cret" not in str(snapshot)


async def test_memory_is_that_of_redis_and_the_rest_of_the_database(flow: TaskFlow, make_source: Any) -> None:
    def told(snapshot: Snapshot) -> dict[str, bool]:
        stats = snapshot.broker
        assert stats is not None
        return {
            "memory": stats.memory_bytes is not None,
            "connections": "idle in transaction" in stats.connections and stats.connections_limit is not None,
            "commands": {"commit", "insert"} <= stats.commands.keys(),
            "roundtrip": stats.roundtrip_seconds is not None,
        }

    assert told(await collected(make_source())) == dict.fromkeys(
        ("memory", "connections", "commands", "roundtrip"), True
    )
    without_redis = await collected(make_source(redis=f"redis://{NOWHERE}/0"))
    assert [what for what, known in told(without_redis).items() if not known] == ["memory"]
    without_database = await collected(make_source(database=f"postgresql://{NOWHERE}/none"))
    assert [what for what, known in told(without_database).items() if known] == ["memory"]


async def test_without_both_it_is_down(make_source: Any) -> None:
    source = make_source(database=f"postgresql://a:s3cret@{NOWHERE}/x", redis=f"redis://a:s3cret@{NOWHERE}/0")
    with pytest.raises(AdapterError) as failed:
        await collected(source)
    assert failed.value.reason is Reason.CONNECT
    assert "s3cret" not in str(failed.value) + repr(source)


async def test_a_redis_url_file_is_read_again(flow: TaskFlow, make_source: Any, redis_url: str, tmp_path: Any) -> None:
    flow.create("mail", 9)
    file = tmp_path / "redis"
    source = make_source(redis_url=None, redis_url_file=str(file))
    async with connect(source) as client:
        (problem,) = (await collect(source, client)).problems
        assert (problem.part, problem.reason) == ("redis", Reason.AUTH)
        file.write_text(redis_url, "utf-8")
        snapshot = await collect(source, client)
    assert not snapshot.problems
    assert queue_of(snapshot, "high").tasks[State.READY] == 1


async def test_the_tables_of_the_migrations_are_told_apart(postgres_dsn: str, make_source: Any, redis_url: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE tasks (task_id uuid PRIMARY KEY, name varchar(255), handler varchar(500))")
    (problem,) = (await collected(make_source())).problems
    assert (problem.part, problem.reason) == ("database", Reason.SCHEMA)
    assert "Alembic" in problem.message


async def test_a_missing_column_of_one_table_is_a_problem_of_that_part(flow: TaskFlow, make_source: Any) -> None:
    flow.create("mail", 9)
    flow.db.execute("ALTER TABLE workers DROP COLUMN capacity")
    snapshot = await collected(make_source())
    assert [(p.part, p.reason) for p in snapshot.problems] == [("workers", Reason.SCHEMA)]
    assert "capacity" in snapshot.problems[0].message
    assert queue_of(snapshot, "high").tasks[State.READY] == 1


@pytest.mark.parametrize("allow_seq_scan", [False, True])
async def test_a_column_of_another_type_is_a_problem_of_that_part(
    flow: TaskFlow, make_source: Any, allow_seq_scan: bool
) -> None:
    flow.row("mail", 9, status="RUNNING")
    flow.db.execute("ALTER TABLE tasks ALTER depends_on TYPE jsonb")
    snapshot = await collected(make_source(allow_seq_scan=allow_seq_scan))
    assert [(p.part, p.reason) for p in snapshot.problems] == [("waiting", Reason.SCHEMA)]
    assert queue_of(snapshot, "high").tasks == {State.READY: 0, State.RUNNING: 1}


async def test_row_level_security_is_not_an_empty_table(flow: TaskFlow, make_source: Any, postgres_dsn: str) -> None:
    flow.create("mail", 9)
    flow.db.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON tasks, workers, campaigns TO reader")
    flow.db.execute("ALTER TABLE tasks ENABLE ROW LEVEL SECURITY")
    try:
        dsn = psycopg.conninfo.make_conninfo(postgres_dsn, user="reader", password="reader")
        (problem,) = (await collected(make_source(database=dsn))).problems
        assert (problem.part, problem.reason) == ("database", Reason.PERMISSION)
        assert "CREATE POLICY" in problem.message
    finally:
        flow.db.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_a_task_is_blocked_until_what_it_depends_on_has_completed(flow: TaskFlow, make_source: Any) -> None:
    parent = flow.create("mail", 9)
    child = flow.create("mail", 5, depends_on=[parent])
    medium = queue_of(await collected(make_source()), "medium")
    assert (medium.tasks[State.BLOCKED], medium.tasks[State.READY]) == (1, 0)
    flow.complete(flow.take("high"))
    flow.enqueue(child, 5)  # as its resolver's caller does; the row stays as it is
    snapshot = await collected(make_source())
    medium = queue_of(snapshot, "medium")
    assert (medium.tasks[State.BLOCKED], medium.tasks[State.READY]) == (0, 1)
    assert values(snapshot, "waiting_rows")["medium",] == 1


async def test_the_oldest_ready_task_waits_since_it_was_last_written(flow: TaskFlow, make_source: Any) -> None:
    flow.create("mail", 9, created_at=clock(-9000), updated_at=clock(-100))  # retried by hand
    flow.create("mail", 2, created_at=clock(-50), updated_at=clock(-50))
    flow.redis.delete("queue:low")  # lost
    snapshot = await collected(make_source())
    assert queue_of(snapshot, "high").oldest_age[State.READY] == pytest.approx(100, abs=20)
    assert queue_of(snapshot, "low").oldest_age[State.READY] == 0.0
    assert values(snapshot, "waiting_rows")["low",] == 1


async def test_a_scheduler_that_moves_nothing_is_down(flow: TaskFlow, make_source: Any) -> None:
    assert not (await collected(make_source())).schedulers
    flow.row("mail", status="SCHEDULED", scheduled_at=clock(-900))  # the scheduler never looks for these
    flow.create("mail", scheduled_at=clock(60))
    (scheduler,) = (await collected(make_source())).schedulers
    assert scheduler.up is True
    flow.create("clean", scheduled_at=clock(-600), cron_expression="0 * * * *", is_recurring=1)
    snapshot = await collected(make_source())
    (scheduler,) = snapshot.schedulers
    assert (scheduler.up, [entry.name for entry in scheduler.entries]) == (False, ["clean 0 * * * *"])
    assert queue_of(snapshot, "medium").overdue == 2
    assert queue_of(snapshot, "medium").oldest_age[State.READY] == pytest.approx(900, abs=20)


async def test_times_in_another_zone(flow: TaskFlow, make_source: Any) -> None:
    zone = ZoneInfo("America/New_York")
    there = clock(-90).replace(tzinfo=ZoneInfo("UTC")).astimezone(zone).replace(tzinfo=None)
    flow.create("mail", 9, created_at=there, updated_at=there)
    flow.take("high")
    flow.db.execute("UPDATE tasks SET started_at = %s", [there])
    flow.register("w1")
    flow.db.execute("UPDATE workers SET last_heartbeat = %s", [there])
    source = make_source(naive_timezone=str(zone))
    snapshot = await collected(source)
    assert queue_of(snapshot, "high").oldest_age[State.RUNNING] == pytest.approx(90, abs=20)
    (worker,) = snapshot.workers
    assert (worker.up, worker.state) == (False, WorkerState.OFFLINE)
    assert worker.last_heartbeat == pytest.approx(there.replace(tzinfo=zone).timestamp(), abs=0.01)


async def test_counts_stop_at_the_limit(flow: TaskFlow, make_source: Any) -> None:
    for _ in range(4):
        flow.row("mail", scheduled_at=clock(60))
    medium = queue_of(await collected(make_source(max_count=3)), "medium")
    assert (medium.tasks[State.SCHEDULED], medium.capped[State.SCHEDULED]) == (4, True)
    assert State.RUNNING not in medium.capped
    assert not queue_of(await collected(make_source(max_count=4)), "medium").capped


async def test_a_large_table_without_its_index_is_not_read(
    flow: TaskFlow, make_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskq_exporter_sql import guard

    monkeypatch.setattr(guard, "LARGE_PAGES", 20)
    for _ in range(3):
        flow.row("mail", 9)
    flow.db.execute(
        "INSERT INTO tasks SELECT (jsonb_populate_record(t, jsonb_build_object('task_id', n, 'status', 'COMPLETED'))).*"
        " FROM tasks AS t, generate_series(1, 5000) AS n WHERE t.task_id = (SELECT min(task_id) FROM tasks)"
    )
    flow.db.execute("ANALYZE tasks")
    assert not (await collected(make_source())).problems
    flow.db.execute("DROP INDEX idx_status_priority")
    snapshot = await collected(make_source())
    assert {(p.part, p.reason) for p in snapshot.problems} == {
        ("waiting", Reason.COST), ("running", Reason.COST), ("schedules", Reason.COST)
    }  # fmt: skip
    assert "CREATE INDEX CONCURRENTLY" in snapshot.problems[0].message
    assert State.RUNNING not in queue_of(snapshot, "high").tasks
    assert not (await collected(make_source(allow_seq_scan=True))).problems


async def test_what_workers_did_is_odd(flow: TaskFlow, make_source: Any) -> None:
    """Nothing that stands in a hash is more than a value that is not known."""
    flow.register("w1")
    flow.measure("w1", total_tasks="many", total_duration="nan", start_time="yesterday", restart_count="-3")
    flow.register("w2")
    flow.measure("w2", total_errors=5, total_tasks=3, start_time=clock(-60).isoformat())
    flow.redis.sadd("workers:registry", "ghost", b"\xff\x00")
    first, second = (await collected(make_source())).workers
    assert (first.finished, first.busy_seconds, first.started, first.restarts) == ({}, None, None, None)
    assert second.started == pytest.approx(clock(-60).replace(tzinfo=ZoneInfo("UTC")).timestamp(), abs=20)
    assert sum(second.finished.values()) == 5


async def test_a_key_of_another_kind_is_a_problem_of_that_part(flow: TaskFlow, make_source: Any) -> None:
    flow.create("mail", 9)
    flow.redis.set("queue:low", "odd")
    snapshot = await collected(make_source())
    assert [(p.part, p.reason) for p in snapshot.problems] == [("queue:low", Reason.PROTOCOL)]
    assert queue_of(snapshot, "high").tasks[State.READY] == 1
    assert State.READY not in queue_of(snapshot, "low").tasks


async def test_check_says_what_is_missing(flow: TaskFlow, make_source: Any) -> None:
    source = make_source()
    async with connect(source) as client:
        texts = [finding.text + finding.advice for finding in await diagnose(source, client)]
        assert any("the database can be read" in text for text in texts)
        assert any("Redis can be read" in text for text in texts)
        assert any('CREATE INDEX CONCURRENTLY ON "public"."tasks" (updated_at);' in text for text in texts)
    flow.db.execute("CREATE INDEX ON tasks (updated_at)")
    async with connect(source) as client:
        assert not any("updated_at" in finding.advice for finding in await diagnose(source, client))
