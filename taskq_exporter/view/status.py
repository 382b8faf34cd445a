"""A look at the sources, and what people and scripts are shown of them: the pages, the JSON, the health, `top`.

Text is redacted here, so that none of them can leak a credential.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from taskq_exporter.api import QueueStats, Snapshot, State, WorkerStats
from taskq_exporter.counts.names import clean
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import redact
from taskq_exporter.points import worker_states
from taskq_exporter.report import SourceReport
from taskq_exporter.runtime.background import Background
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.view.overview import (
    CapabilityOverview,
    QueueOverview,
    SchedulerOverview,
    SourceOverview,
    Stuck,
    WorkerOverview,
    urgency,
)

__all__ = ["known_overview", "overview"]

_looking = Background()


async def overview(
    exporter: Exporter, sources: Collection[str] | None = None, *, max_age: float = 0.0, patience: float = math.inf
) -> list[SourceOverview]:
    """Look at the sources (all, or those named) and say what there is; unknown names are left out.

    Args:
        exporter: Whose sources.
        sources: Their names.
        max_age: Where the last look is not older (seconds), it will do.
        patience: Seconds to wait for a source; after that what was last known of it will do.
    """
    runners = [r for r in exporter.runners.values() if sources is None or r.name in sources]
    now = asyncio.get_running_loop().time()
    old = [r for r in runners if now - r.history.noted_at > max_age]
    # each for itself, so that one that hangs keeps none of the others from being known; and under no deadline: a
    # collect that somebody gives up on counts as an error
    looks = [_looking.start(exporter.gather(runners=[runner])) for runner in old]
    if looks:
        await asyncio.wait(looks, timeout=None if math.isinf(patience) else patience)
    return [known_overview(runner) for runner in runners]


def known_overview(runner: SourceRunner) -> SourceOverview:
    """What is known of a source, without looking at it anew."""
    report, last_error = runner.history.report, runner.failures.last
    common: dict[str, Any] = {
        "name": runner.name,
        "adapter": runner.adapter.name,
        "annotations": runner.configured.config.annotations,
        "last_error": last_error.value if last_error is not None else None,
        "last_error_at": runner.failures.last_at,
        "last_success": runner.last_success,
    }
    if report is None:
        return SourceOverview(state="starting", **common)
    common |= {
        "collect_seconds": report.collect_seconds,
        "following": report.follower_up,
        "follower_lag": report.follower_lag,
    }
    if report.snapshot is None:
        if runner.error is None:  # it succeeds again, which no page has shown yet
            return SourceOverview(state="down", reason=common["last_error"], **common)
        message = redact(str(runner.error))
        return SourceOverview(state="down", reason=runner.error.reason.value, message=message, **common)
    try:
        return replace(_seen(runner, report, report.snapshot), **common)
    except Exception as failed:  # noqa: BLE001 - a record that is none must not fail the page
        return SourceOverview(state="down", reason="bug", message=runner.bug(failed, "overview"), **common)


def _seen(runner: SourceRunner, report: SourceReport, snapshot: Snapshot) -> SourceOverview:
    problems = tuple(replace(p, message=redact(p.message)) for p in snapshot.problems)
    message = "" if report.follower_up is not False else "the follower does not follow: nothing is counted"
    if problems:
        message = f"cannot read {problems[0].part}: {problems[0].message}"
    caps, queues, workers = (
        runner.configured.config.caps(),
        _queues(runner, report, snapshot),
        _workers(snapshot.workers),
    )
    return SourceOverview(
        name=report.name,
        adapter=report.adapter,
        state="partial" if message else "up",
        reason=problems[0].reason.value if problems else None,
        message=message,
        server=snapshot.server,
        server_version=snapshot.server_version,
        snapshot_age=(report.snapshot_age or 0.0) + asyncio.get_running_loop().time() - runner.history.noted_at,
        queues=tuple(queues[: caps["queue"]]),
        queues_total=len(queues),
        workers=tuple(workers[: caps["worker"]]),
        workers_total=len(workers),
        worker_states={state.value: n for state, n in worker_states(snapshot).items()},
        schedulers=tuple(
            SchedulerOverview(name=clean(s.name), up=s.up, last_beat=s.last_beat, entries=s.entry_count)
            for s in snapshot.schedulers[: caps["scheduler"]]
        ),
        broker=snapshot.broker,
        operations_per_second=runner.history.operations_per_second,
        problems=problems,
        findings=tuple(replace(f, text=redact(f.text), advice=redact(f.advice)) for f in snapshot.findings),
        capabilities=tuple(
            CapabilityOverview(
                family=c.family, state=c.state, can=c.able, reason=c.reason, advice="" if c.able else redact(c.advice)
            )
            for c in snapshot.capabilities
        ),
    )


def _queues(runner: SourceRunner, report: SourceReport, snapshot: Snapshot) -> list[QueueOverview]:
    able = {c.state for c in snapshot.capabilities if c.able and c.family == "taskq_tasks"}
    held = [state for state in (State.RESERVED, State.RUNNING) if state in able]
    longest: dict[str, float] = {}
    for run in snapshot.longest_runs:
        longest[run.queue] = max(longest.get(run.queue, 0.0), run.seconds)
    within = {objective.queue: objective.wait_seconds for objective in report.objectives}
    queues = []
    for queue in snapshot.queues:
        name, oldest = clean(queue.name), queue.oldest_age.get(State.READY)
        start_within = within.get(queue.name)
        queues.append(
            QueueOverview(
                name=name,
                tasks={state.value: n for state, n in queue.tasks.items()},
                capped=tuple(state.value for state, capped in queue.capped.items() if capped),
                backlog=_backlog(queue, held),
                oldest_ready=oldest,
                oldest_is_bound=None if oldest is None else queue.oldest_is_bound,
                longest_run=queue.oldest_age.get(State.RUNNING, longest.get(queue.name)),
                consumers=queue.consumers,
                slots=queue.slots,
                paused=queue.paused,
                finished_per_second=runner.history.finished_per_second(name),
                failed_per_second=runner.history.failed_per_second(name),
                start_within=start_within,
                stuck=_stuck(queue, oldest, start_within),
                history=runner.history.ready(name),
            )
        )
    return sorted(queues, key=urgency)


def _backlog(queue: QueueStats, held: Sequence[State]) -> int | None:
    """Tasks that wait and that workers hold; None where one of these is not known, or nobody can tell what is held."""
    parts = [queue.tasks.get(state) for state in (State.READY, *held)]
    return sum(n for n in parts if n is not None) if held and None not in parts else None


def _stuck(queue: QueueStats, oldest: float | None, start_within: float | None) -> Stuck:
    waits = bool(queue.tasks.get(State.READY))
    if waits and queue.paused:
        return "paused"
    if waits and queue.consumers == 0:
        return "no_consumers"
    return "late" if start_within is not None and oldest is not None and oldest > start_within else ""


def _workers(workers: Sequence[WorkerStats]) -> list[WorkerOverview]:
    found = [
        WorkerOverview(
            name=clean(w.name),
            up=w.up,
            state=w.state.value if w.state is not None else None,
            running=w.tasks.get("running"),
            reserved=w.tasks.get("reserved"),
            slots=w.slots,
            longest_run=w.longest_run,
            last_heartbeat=w.last_heartbeat,
            started=w.started,
            pool=w.pool,
            software=w.software,
            software_version=w.software_version,
        )
        for w in workers
    ]
    return sorted(found, key=lambda w: (w.up is not False, -(w.longest_run or 0.0), w.name))
