"""A source's report as single values: family, labels beside `source`, value. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from taskq_exporter.api import QueueStats, Reason, Snapshot, State, WorkerState, WorkerStats
from taskq_exporter.report import SourceReport

__all__ = ["Labels", "Point", "snapshot_points", "source_points", "worker_states"]

Labels = tuple[str, ...]
Point = tuple[str, Labels, float]

#: Plain text of each state, which many times a page is faster had from here than from the enumeration.
_STATES = {state: state.value for state in State}


def source_points(report: SourceReport, annotations: Sequence[str]) -> Iterator[Point]:
    """The source's own series: they stand on every page, whatever could be read."""
    yield "taskq_source_up", (), int(report.up)
    if report.annotations:
        yield "taskq_source_annotations_info", tuple(report.annotations.get(key, "") for key in annotations), 1
    yield from _known("taskq_source_collect_duration_seconds", (), report.collect_seconds)
    yield from _known("taskq_source_snapshot_age_seconds", (), report.snapshot_age)
    yield from _known("taskq_source_last_success_timestamp_seconds", (), report.last_success)
    yield from _known("taskq_source_counting_since_timestamp_seconds", (), report.ledger.since)
    for reason in Reason:
        yield "taskq_source_errors_total", (reason.value,), report.errors.get(reason, 0)
    yield from _known("taskq_source_problems", (), report.problem_count)
    yield "taskq_source_commands_total", (), report.commands
    for label, n in report.names.overflow.copy().items():
        yield "taskq_source_label_overflow_total", (label,), n
    if report.follower_up is not None:
        yield "taskq_source_follower_up", (), int(report.follower_up)
        yield "taskq_source_follower_restarts_total", (), report.follower_restarts
        yield from _known("taskq_source_follower_lag_seconds", (), report.follower_lag)
    for objective in report.objectives:
        yield "taskq_queue_objective_wait_seconds", (objective.queue,), objective.wait_seconds
        yield "taskq_queue_objective_ratio", (objective.queue,), objective.ratio
    if report.snapshot is not None:
        snapshot = report.snapshot
        yield "taskq_source_info", (report.adapter, snapshot.server, snapshot.server_version), 1


def snapshot_points(snapshot: Snapshot | None) -> Iterator[Point]:
    """What a snapshot says, as samples of the schema's families."""
    if snapshot is None:
        return
    for query, seconds in snapshot.query_seconds.items():
        yield "taskq_source_query_duration_seconds", (query,), seconds
    for c in snapshot.capabilities:
        yield "taskq_source_capability", (c.family, c.state, c.reason), int(c.able)
    for queue in snapshot.queues:
        yield from _queue_points(queue)
    for run in snapshot.longest_runs:
        yield "taskq_task_longest_run_seconds", (run.queue, run.task), max(run.seconds, 0.0)
    for worker_state, n in worker_states(snapshot).items():
        yield "taskq_workers", (worker_state.value,), n
    for worker in snapshot.workers:
        yield from _worker_points(worker)
    for scheduler in snapshot.schedulers:
        yield from _known("taskq_scheduler_up", (scheduler.name,), scheduler.up)
        yield from _known("taskq_scheduler_last_beat_timestamp_seconds", (scheduler.name,), scheduler.last_beat)
        yield from _known("taskq_scheduler_entries", (scheduler.name,), scheduler.entry_count)
        for entry in scheduler.entries:
            labels = (scheduler.name, entry.name)
            yield from _known("taskq_schedule_last_run_timestamp_seconds", labels, entry.last_run)
            yield from _known("taskq_schedule_next_run_timestamp_seconds", labels, entry.next_run)
    if snapshot.broker is not None:
        broker = snapshot.broker
        yield from _known("taskq_broker_roundtrip_seconds", (), broker.roundtrip_seconds)
        yield from _known("taskq_broker_memory_bytes", (), broker.memory_bytes)
        yield from _known("taskq_broker_memory_limit_bytes", (), broker.memory_limit_bytes)
        for connection_state, n in broker.connections.items():
            yield "taskq_broker_connections", (connection_state,), n
        yield from _known("taskq_broker_connections_limit", (), broker.connections_limit)
        yield from _known("taskq_broker_slow_statement_seconds", (), broker.slow_statement_seconds)
        for command, n in broker.commands.items():
            yield "taskq_broker_commands_total", (command,), n
    for sample in snapshot.samples:
        yield sample.family, tuple(sample.labels), sample.value


def _queue_points(queue: QueueStats) -> Iterator[Point]:
    q = queue.name
    for state, n in queue.tasks.items():
        yield "taskq_tasks", (q, _STATES[state]), n
    for (state, level), n in queue.by_priority.items():
        yield "taskq_tasks_by_priority", (q, _STATES[state], level), n
    for state, capped in queue.capped.items():
        yield "taskq_tasks_capped", (q, _STATES[state]), int(capped)
    for state, age in queue.oldest_age.items():
        # clocks differ: an age below 0 is 0
        yield "taskq_oldest_task_age_seconds", (q, _STATES[state]), max(age, 0.0)
    if queue.overdue is not None:
        yield "taskq_tasks_overdue", (q,), queue.overdue
    if queue.consumers is not None:
        yield "taskq_queue_consumers", (q,), queue.consumers
    if queue.slots is not None:
        yield "taskq_queue_slots", (q,), queue.slots
    if queue.paused is not None:
        yield "taskq_queue_paused", (q,), int(queue.paused)
    if queue.bytes is not None:
        yield "taskq_queue_bytes", (q,), queue.bytes
    for level, n in queue.enqueued.items():
        yield "taskq_tasks_enqueued_total", (q, "", level), n


def _worker_points(worker: WorkerStats) -> Iterator[Point]:
    w = worker.name
    yield from _known("taskq_worker_up", (w,), worker.up)
    if worker.pool or worker.software:
        yield "taskq_worker_info", (w, worker.pool, worker.software, worker.software_version), 1
    yield from _known("taskq_worker_slots", (w,), worker.slots)
    yield from _known("taskq_worker_prefetch_limit", (w,), worker.prefetch_limit)
    for state, n in worker.tasks.items():
        yield "taskq_worker_tasks", (w, state), n
    yield from _known("taskq_worker_last_heartbeat_timestamp_seconds", (w,), worker.last_heartbeat)
    yield from _known("taskq_worker_start_timestamp_seconds", (w,), worker.started)
    yield from _known("taskq_worker_longest_run_seconds", (w,), worker.longest_run)
    for outcome, n in worker.finished.items():
        yield "taskq_worker_tasks_finished_total", (w, outcome.value), n
    yield from _known("taskq_worker_busy_seconds_total", (w,), worker.busy_seconds)
    yield from _known("taskq_worker_restarts_total", (w,), worker.restarts)


def worker_states(snapshot: Snapshot) -> Mapping[WorkerState, int]:
    """Workers by state; the states that these workers can be in start at 0, and there are none where nobody knows."""
    states = [worker.state for worker in snapshot.workers if worker.state is not None]
    if snapshot.worker_states or not states:
        return snapshot.worker_states
    return {s: states.count(s) for s in (WorkerState.IDLE, WorkerState.BUSY, WorkerState.OFFLINE, *states)}


def _known(name: str, labels: Labels, value: float | bool | None) -> Iterator[Point]:
    if value is not None:
        yield name, labels, int(value) if isinstance(value, bool) else value
