"""TaskFlow played by hand: nothing of it can be installed, and at its last commit no worker of it runs.

The tables are written down by hand after its models, as `metadata.create_all` makes them, without those that nothing
here reads. What is done to them and to Redis is what its broker, its routes and its example worker do, one
statement at a time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

TABLES = """
CREATE TABLE campaigns (
    campaign_id varchar(36) PRIMARY KEY, name varchar(255) NOT NULL, status varchar(50) NOT NULL,
    template_subject varchar(255) NOT NULL, template_body text NOT NULL, template_variables json NOT NULL,
    total_recipients integer NOT NULL, sent_count integer NOT NULL, failed_count integer NOT NULL,
    scheduled_at timestamp, started_at timestamp, completed_at timestamp, created_by varchar(36),
    rate_limit_per_minute integer NOT NULL, updated_at timestamp NOT NULL, created_at timestamp NOT NULL
);
CREATE INDEX idx_campaign_status ON campaigns (status);
CREATE TABLE workers (
    worker_id varchar(36) PRIMARY KEY, hostname varchar(255) NOT NULL, status varchar(50) NOT NULL,
    capacity integer NOT NULL, current_load integer NOT NULL, last_heartbeat timestamp, worker_metadata json NOT NULL,
    updated_at timestamp NOT NULL, created_at timestamp NOT NULL
);
CREATE INDEX idx_workers_heartbeat ON workers (last_heartbeat);
CREATE TABLE tasks (
    task_id varchar(36) PRIMARY KEY, task_name varchar(255) NOT NULL, task_args json NOT NULL,
    task_kwargs json NOT NULL, priority integer NOT NULL,
    status varchar(50) NOT NULL, retry_count integer NOT NULL, max_retries integer NOT NULL,
    retry_strategy varchar(50) NOT NULL, backoff_base_seconds integer NOT NULL, max_backoff_seconds integer NOT NULL,
    next_retry_at timestamp, timeout_seconds integer NOT NULL, depends_on json NOT NULL,
    parent_task_id varchar(36) REFERENCES tasks, campaign_id varchar(36) REFERENCES campaigns, scheduled_at timestamp,
    cron_expression varchar(100), is_recurring integer NOT NULL, started_at timestamp, completed_at timestamp,
    worker_id varchar(36) REFERENCES workers, created_by varchar(36), updated_at timestamp NOT NULL,
    created_at timestamp NOT NULL, CONSTRAINT check_priority_range CHECK (priority >= 1 AND priority <= 10)
);
CREATE INDEX idx_status_priority ON tasks (status, priority);
CREATE INDEX idx_scheduled_at ON tasks (scheduled_at);
CREATE INDEX idx_campaign_id ON tasks (campaign_id);
CREATE INDEX idx_created_at ON tasks (created_at);
CREATE INDEX idx_worker_id ON tasks (worker_id);
"""


def clock(seconds: float = 0.0) -> datetime:
    """Now, as its models write it: UTC, without a zone in the column."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)


class TaskFlow:
    """Both servers as TaskFlow uses them."""

    def __init__(self, database: str, redis_url: str) -> None:
        self._open = ExitStack()
        self.db = self._open.enter_context(psycopg.connect(database, autocommit=True))
        self.redis = self._open.enter_context(redis.Redis.from_url(redis_url, decode_responses=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._open.close()

    def create(self, task: str, priority: int = 5, *, depends_on: Sequence[str] = (), **columns: Any) -> str:
        """POST /tasks: a row, and its entry where neither a dependency nor a time holds it back."""
        at = columns.get("scheduled_at")
        task_id = self.row(task, priority, depends_on=depends_on, **columns)
        if depends_on:
            for parent in depends_on:
                self.redis.sadd(f"task:{parent}:dependencies", task_id)
        elif at is not None:
            self.redis.zadd("tasks:scheduled", {task_id: int(at.replace(tzinfo=UTC).timestamp())})
        else:
            self.redis.hset(f"task:{task_id}:meta", mapping={"task_id": task_id, "status": "PENDING"})
            self.enqueue(task_id, priority)
        return task_id

    def row(self, task: str, priority: int = 5, *, depends_on: Sequence[str] = (), **columns: Any) -> str:
        """A row with the defaults of the model."""
        now = clock()
        values: dict[str, Any] = {
            "task_id": f"{task}-{time.monotonic_ns()}",
            "task_name": task,
            "task_args": "[]",
            "task_kwargs": '{"to": "secret of a user"}',
            "priority": priority,
            "status": "PENDING",
            "retry_count": 0,
            "max_retries": 5,
            "retry_strategy": "exponential",
            "backoff_base_seconds": 2,
            "max_backoff_seconds": 3600,
            "timeout_seconds": 300,
            "depends_on": "[" + ",".join(f'"{parent}"' for parent in depends_on) + "]",
            "is_recurring": 0,
            "created_at": now,
            "updated_at": now,
            **columns,
        }
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        self.db.execute(f"INSERT INTO tasks ({names}) VALUES ({marks})", list(values.values()))  # type: ignore[arg-type]
        return str(values["task_id"])

    def enqueue(self, task_id: str, priority: int) -> None:
        """TaskBroker.enqueue_task."""
        queue = "high" if priority >= 8 else "medium" if priority >= 4 else "low"
        self.redis.rpush(f"queue:{queue}", task_id)

    def update(self, task_id: str, **columns: Any) -> None:
        """A change through the model, which writes updated_at too."""
        values = {"updated_at": clock(), **columns}
        assigned = ", ".join(f"{name} = %s" for name in values)
        self.db.execute(f"UPDATE tasks SET {assigned} WHERE task_id = %s", [*values.values(), task_id])  # type: ignore[arg-type]

    def take(self, queue: str) -> str:
        """What the example worker does first: the entry is gone, the row is RUNNING. It writes no worker_id."""
        task_id = self.redis.lpop(f"queue:{queue}")
        assert isinstance(task_id, str)
        self.update(task_id, status="RUNNING", started_at=clock())
        return task_id

    def complete(self, task_id: str) -> None:
        self.update(task_id, status="COMPLETED", completed_at=clock())

    def fail(self, task_id: str) -> None:
        """Without a completed_at."""
        self.update(task_id, status="FAILED")

    def cancel(self, task_id: str) -> None:
        """DELETE /tasks/ID; it looks for the entry in lists with names in capitals, which are none."""
        self.update(task_id, status="CANCELLED")
        self.redis.lrem("queue:HIGH", 0, task_id)

    def register(
        self, worker: str, status: str = "ACTIVE", *, load: int = 0, capacity: int = 5, beat: float = 0
    ) -> None:
        """POST /workers and a heartbeat of `beat` seconds ago."""
        at = clock(-beat)
        self.db.execute(
            "INSERT INTO workers VALUES (%s, 'host', %s, %s, %s, %s, '{}', %s, %s)",
            [worker, status, capacity, load, at, at, at],
        )
        self.redis.sadd("workers:registry", worker)
        fields = {"hostname": "host", "capacity": capacity, "status": status, "current_load": load}
        self.redis.hset(f"worker:{worker}", mapping={**fields, "last_heartbeat": at.isoformat()})

    def measure(self, worker: str, **fields: Any) -> None:
        """WorkerMetricsTracker; each field is there once something was counted."""
        self.redis.hset(f"worker:metrics:{worker}", mapping=fields)
        self.redis.expire(f"worker:metrics:{worker}", 86400)

    def bury(self, task_id: str) -> None:
        """TaskBroker.move_to_dlq."""
        self.redis.hset(f"task:{task_id}:dlq", mapping={"task_id": task_id, "failure_reason": "secret of a user"})
        self.redis.zadd("tasks:dlq", {task_id: time.time()})

    def campaign(self, name: str, status: str) -> None:
        now = clock()
        self.db.execute(
            "INSERT INTO campaigns VALUES (%s, %s, %s, '', '', '{}', 0, 0, 0, NULL, NULL, NULL, NULL, 100, %s, %s)",
            [name, name, status, now, now],
        )


def url_in_a_file(path: Path, url: str) -> Path:
    """A redis_url_file."""
    path.write_text(f"{url}\n", "utf-8")
    return path
