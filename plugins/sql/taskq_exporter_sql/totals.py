"""What ended, grouped in SQL and fed to the ledger: rows for each pair of buckets, and not for each job."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from psycopg import sql

from taskq_exporter.api import Ledger, Outcome

__all__ = ["MAX_GROUPS", "count_finished", "event_counts", "finished_totals"]

#: Groups of jobs that ended: each queue and task once for each pair of buckets.
MAX_GROUPS = 50_000


def finished_totals(
    finished: sql.Composable,
    *,
    run_bounds: Sequence[float],
    wait_bounds: Sequence[float],
    labels: Sequence[Literal["queue", "task"]] = ("queue", "task"),
) -> sql.Composable:
    """Rows (outcome, queue, task, run bucket, wait bucket, count, sum of runs, sum of waits) of jobs that ended.

    A bucket is an index into the bounds, their number for +Inf; NULL where the time is not known. Of queue and task,
    those that are not in `labels` are `_other`. There is a row more than MAX_GROUPS where there are too many.
    """
    return sql.SQL(
        "SELECT outcome, {queue}, {task}, {run}, {wait}, count(*), sum(run_seconds), sum(wait_seconds)"
        " FROM ({finished}) AS finished GROUP BY 1, 2, 3, 4, 5 LIMIT {limit}"
    ).format(
        queue=sql.SQL("queue" if "queue" in labels else "'_other'::text"),
        task=sql.SQL("task" if "task" in labels else "'_other'::text"),
        limit=sql.Literal(MAX_GROUPS + 1),
        run=_bucket("run_seconds", tuple(run_bounds)),
        wait=_bucket("wait_seconds", tuple(wait_bounds)),
        finished=finished,
    )


def event_counts(
    events: sql.Composable, *, priority: bool, labels: Sequence[Literal["queue", "task"]] = ("queue", "task")
) -> sql.Composable:
    """Rows (queue, task, count), the priority before the count where it is asked for; names as in finished_totals()."""
    keys = [
        sql.SQL("queue" if "queue" in labels else "'_other'::text"),
        sql.SQL("task" if "task" in labels else "'_other'::text"),
        *([sql.SQL("priority")] if priority else []),
    ]
    return sql.SQL("SELECT {}, count(*) FROM ({}) AS events GROUP BY {} LIMIT {}").format(
        sql.SQL(", ").join(keys),
        events,
        sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(len(keys))),
        sql.Literal(MAX_GROUPS + 1),
    )


@functools.lru_cache(maxsize=256)
def _bucket(column: str, bounds: tuple[float, ...]) -> sql.Composable:
    # width_bucket() counts the bounds at or below a value; ours holds the values at or below its bound: mirrored
    mirrored = sql.SQL(", ").join(sql.Literal(-bound) for bound in reversed(bounds))
    text = sql.SQL("{} - width_bucket(-{}, ARRAY[{}]::float8[])").format(len(bounds), sql.Identifier(column), mirrored)
    return sql.SQL(text.as_string(None))


def count_finished(rows: Iterable[tuple[Any, ...]], ledger: Ledger, default_queue: str) -> None:
    """Feed rows of finished_totals() to the ledger, one call for each of its label sets.

    Their outcomes are Outcome; `default_queue` is that of jobs without one. There is no await in here.
    """
    finished: defaultdict[tuple[str, str, Outcome], int] = defaultdict(int)
    runs: dict[tuple[str, str, Outcome], _Histogram] = {}
    waits: dict[tuple[str, str], _Histogram] = {}
    for outcome, queue, task, run_bucket, wait_bucket, n, run_sum, wait_sum in rows:
        queue, task = queue or default_queue, task or ""
        finished[queue, task, outcome] += n
        if run_bucket is not None:
            runs.setdefault((queue, task, outcome), _Histogram(ledger.run_bounds)).add(run_bucket, n, run_sum)
        if wait_bucket is not None:
            waits.setdefault((queue, task), _Histogram(ledger.wait_bounds)).add(wait_bucket, n, wait_sum)
    for (queue, task, outcome), n in finished.items():
        if outcome is Outcome.RETRIED:
            ledger.retried(queue, task, n=n)
        else:
            ledger.finished(queue, task, outcome, n=n)
    for (queue, task, outcome), run in runs.items():
        ledger.ran_many(queue, task, outcome, run.counts, run.total)
    for (queue, task), wait in waits.items():
        ledger.waited_many(queue, wait.counts, wait.total, task)
    ledger.events(sum(finished.values()))


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, bucket: int, n: int, total: float) -> None:
        self.counts[bucket] += n
        self.total += total
