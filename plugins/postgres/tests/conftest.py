"""A jobs table as many applications write one, described in YAML's shape, and a source over it with least rights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from taskq_exporter_postgres.adapter import grants
from taskq_exporter_postgres.options import PostgresOptions

from taskq_exporter.api import DropReason, Outcome, Snapshot, Source

JOBS = """
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text,
    kind text NOT NULL DEFAULT 'mail',
    state text NOT NULL DEFAULT 'queued',
    priority smallint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    run_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    locked_by text,
    payload text NOT NULL DEFAULT 'secret of a user'
);
CREATE INDEX jobs_queued ON jobs (queue, run_at) WHERE state = 'queued';
CREATE INDEX jobs_active ON jobs (queue, started_at) WHERE state = 'active';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE workers (id text PRIMARY KEY, last_seen timestamptz NOT NULL DEFAULT now(), slots integer);
"""
TABLE: dict[str, Any] = {
    "name": "public.jobs",
    "columns": {
        "id": "id",
        "queue": "queue",
        "task": "kind",
        "state": "state",
        "priority": "priority",
        "scheduled_at": "run_at",
        "started_at": "started_at",
        "finished_at": "finished_at",
        "created_at": "created_at",
        "worker": "locked_by",
        "attempts": "attempts",
    },
    "states": {"ready": ["queued"], "running": ["active"], "succeeded": ["done"], "failed": ["error"]},
}
WORKERS = {"name": "workers", "columns": {"id": "id", "heartbeat": "last_seen", "slots": "slots"}, "stale_after": "60s"}
FILL = """
INSERT INTO jobs (queue, kind, state, priority, attempts, created_at, run_at, started_at, finished_at, locked_by)
SELECT 'q' || n % 3, 'k' || n % 5, (ARRAY['queued', 'queued', 'active', 'done', 'error'])[1 + n % 5], n % 4,
    CASE WHEN n % 7 = 0 THEN 1 ELSE 0 END, now() - n * interval '1 s',
    CASE (n / 3) % 3 WHEN 0 THEN NULL WHEN 1 THEN now() - n * interval '0.5 s' ELSE now() + interval '1 h' END,
    CASE WHEN n % 5 >= 2 THEN now() - n * interval '0.2 s' END,
    CASE WHEN n % 5 >= 3 THEN now() END, CASE WHEN n % 5 >= 2 THEN 'w' || n % 4 END
FROM generate_series(1, 1000) AS n
"""
PASSWORD = "s3cret-of-the-exporter"


@pytest.fixture
def admin(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """The application's own connection."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


MakeSource = Callable[..., Source]


@pytest.fixture
def make_source(admin: psycopg.Connection[Any], postgres_dsn: str) -> MakeSource:
    """A source over described tables, whose user has exactly what `grants` prints."""

    def make(
        table: Mapping[str, Any] | None = TABLE, *, timeout: float = 5.0, grant: bool = True, **options: Any
    ) -> Source:
        model = PostgresOptions.model_validate({"table": table, **options} if table else options)
        dsn = make_conninfo(postgres_dsn, user="taskq_exporter", password=PASSWORD)
        source = Source(name="billing", adapter="postgres", url=lambda: dsn, options=model, timeout=timeout)
        if grant:
            admin.execute(grants(source))
            admin.execute(f"ALTER ROLE taskq_exporter PASSWORD '{PASSWORD}'")
        return source

    return make


class FakeLedger:
    """Remembers what it is told."""

    def __init__(self, cursor: Any = None) -> None:
        self.cursor = cursor
        self.view: Callable[[], Snapshot] | None = None
        self.run_bounds: tuple[float, ...] = (0.1, 0.5, 1.0, 60.0)
        self.wait_bounds: tuple[float, ...] = (0.1, 1.0, 30.0)
        self.totals: dict[tuple[str, str, str], int] = {}
        self.others: Counter[tuple[str, str, str, str]] = Counter()  # (counter, queue, task, priority)
        self.runs: dict[tuple[str, str, str], tuple[list[int], float]] = {}
        self.waits: dict[tuple[str, str], tuple[list[int], float]] = {}
        self.lag: float | None = None
        self.followed = 0
        self.started_over: list[str] = []
        self.gaps = 0
        self.read = 0
        self.sent = 0
        self.counted: set[str] = set()

    def following(self, lag: float | None = 0.0) -> None:
        self.lag = lag
        self.followed += 1

    def counts(self, *what: str) -> None:
        self.counted |= set(what)

    def start_over(self, why: str) -> None:
        self.cursor = None
        self.totals.clear()
        self.started_over.append(why)

    def gap(self) -> None:
        self.gaps += 1

    def finished(self, queue: str, task: str, outcome: Outcome, worker: str = "", n: int = 1) -> None:
        key = (queue, task, outcome.value)
        self.totals[key] = self.totals.get(key, 0) + n

    def retried(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self.others["retried", queue, task, ""] += n

    def started(self, queue: str, task: str, worker: str = "", n: int = 1) -> None:
        self.others["started", queue, task, ""] += n

    def enqueued(self, queue: str, task: str, priority: str = "", n: int = 1) -> None:
        self.others["enqueued", queue, task, priority] += n

    def ran_many(
        self, queue: str, task: str, outcome: Outcome, counts: list[int], total: float, worker: str = ""
    ) -> None:
        self._merge(self.runs, (queue, task, outcome.value), counts, total)

    def waited_many(self, queue: str, counts: list[int], total: float, task: str = "") -> None:
        self._merge(self.waits, (queue, task), counts, total)

    def events(self, n: int = 1) -> None:
        self.read += n

    def dropped(self, reason: DropReason, n: int = 1) -> None:
        raise AssertionError("nothing is ever dropped")

    def commands(self, n: int = 1) -> None:
        self.sent += n

    @staticmethod
    def _merge(into: dict[Any, tuple[list[int], float]], key: Any, counts: list[int], total: float) -> None:
        before, sum_before = into.get(key, ([0] * len(counts), 0.0))
        into[key] = ([a + b for a, b in zip(before, counts, strict=True)], sum_before + total)


@pytest.fixture
def jobs(admin: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The application's connection to a database with its tables."""
    admin.execute(JOBS)
    return admin


@pytest.fixture
def make_ledger() -> type[FakeLedger]:
    return FakeLedger


@pytest.fixture
def table() -> dict[str, Any]:
    """The description of the jobs table, to change."""
    return {**TABLE, "columns": dict(TABLE["columns"]), "states": dict(TABLE["states"])}


@pytest.fixture
def workers() -> dict[str, Any]:
    """The description of the worker table."""
    return WORKERS


@pytest.fixture
def fill() -> str:
    """A thousand jobs of every state, in three queues."""
    return FILL


@pytest.fixture
def jobs_ddl() -> str:
    """What creates the tables."""
    return JOBS
