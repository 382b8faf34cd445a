"""How many series a source costs: a promise to whoever pays for the Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fakes import configured

from taskq_exporter.api import (
    Capability,
    Ledger,
    LongestRun,
    Outcome,
    QueueStats,
    Snapshot,
    State,
    WorkerState,
    WorkerStats,
)
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render

STATES = (State.READY, State.RESERVED, State.RUNNING, State.SCHEDULED, State.FAILED, State.SUCCEEDED)


def busy(queues: int, tasks: int, workers: int) -> Snapshot:
    """A Celery-like source at work, with everything that an adapter can tell."""
    return Snapshot(
        server="redis",
        queues=[
            QueueStats(
                name=f"queue-{q}",
                tasks=dict.fromkeys(STATES, q),
                by_priority={(State.READY, str(level)): 1 for level in (0, 3, 6, 9)},
                oldest_age={State.READY: 1.0, State.RUNNING: 1.0},
                consumers=5,
                slots=20,
            )
            for q in range(queues)
        ],
        longest_runs=[LongestRun(queue=f"queue-{t % queues}", task=f"app.task_{t}", seconds=1) for t in range(20)],
        workers=[
            WorkerStats(
                name=f"celery@worker-{w}",
                up=True,
                state=WorkerState.BUSY,
                pool="prefork",
                software="celery",
                software_version="5.7.0",
                slots=4,
                prefetch_limit=16,
                tasks={"running": 1, "reserved": 1, "scheduled": 0},
                last_heartbeat=1.0,
                started=1.0,
            )
            for w in range(workers)
        ],
        capabilities=[Capability(family="taskq_tasks", state=state) for state in STATES],
    )


async def page_of(snapshot: Snapshot, work: Callable[[Ledger], None]) -> list[str]:
    async def collect() -> Snapshot:
        return snapshot

    exporter = Exporter()
    runner = exporter.add(configured({"collect": collect}))
    work(runner.ledger)
    page = (await render(exporter, await exporter.gather())).decode()
    await exporter.close()
    return [line for line in page.splitlines() if 'source="s"' in line]


async def test_200_tasks_10_queues_and_50_workers_stay_below_6500_series() -> None:
    def work(ledger: Ledger) -> None:
        ledger.counts("enqueued", "received", "started", "retried", "finished")
        for t in range(200):
            queue, task = f"queue-{t % 10}", f"app.task_{t}"
            ledger.enqueued(queue, task)
            ledger.received(queue, task, "w")
            ledger.started(queue, task, "w")
            ledger.waited(queue, 0.1, task)
            ledger.finished(queue, task, Outcome.SUCCEEDED, "w")
            ledger.ran(queue, task, Outcome.SUCCEEDED, 0.1, "w")
            if t % 20 == 0:  # one task in twenty also fails and is retried
                ledger.ran(queue, task, Outcome.RETRIED, 0.1, "w")
                ledger.ran(queue, task, Outcome.FAILED, 0.1, "w")
                ledger.exception(queue, task, "ValueError")

    lines = await page_of(busy(10, 200, 50), work)
    assert 5000 < len(lines) < 6500
    assert f'taskq_source_series{{source="s"}} {len(lines) - 1}.0' in lines


@pytest.mark.parametrize("what", ["queue", "task", "worker", "exception"])
async def test_caps_hold_when_names_explode(what: str) -> None:
    many: dict[str, Any] = {name: (5000 if name == what else 1) for name in ("queue", "task", "worker", "exception")}

    def work(ledger: Ledger) -> None:
        ledger.counts("finished")
        for i in range(5000):
            queue, task = f"queue-{i % many['queue']}", f"task-{i % many['task']}"
            ledger.finished(queue, task, Outcome.FAILED)
            ledger.exception(queue, task, f"Error{i % many['exception']}")

    lines = await page_of(busy(many["queue"], many["task"], many["worker"]), work)
    finished = [float(line.split()[-1]) for line in lines if line.startswith("taskq_tasks_finished_total")]
    assert sum(finished) == 5000
    values = {value for line in lines for value in re.findall(rf'[{{,]{what}="([^"]*)"', line)}
    assert len(values - {"_other", ""}) == {"queue": 1000, "task": 500, "worker": 1000, "exception": 100}[what]
    assert len(lines) < 26_000
    if what != "worker":
        assert any(f'{what}="_other"' in line for line in lines)
