"""Recording rules: one series for what several exporters say of one source. Alerts and dashboards read nothing else."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILED", "ID", "Record", "by", "gauge", "rate", "records"]

#: Labels that only say which exporter was asked; the rest of what Prometheus adds (job, namespace, cluster) stays.
AWAY = "instance, pod, container, endpoint, node"
#: What tells one source from another.
ID = "cluster, namespace, job, source"

#: How a task ends badly.
FAILED = 'outcome=~"failed|timed_out|dead|lost|expired"'

#: Families that are recorded as they are.
GAUGES = (
    *("taskq_source_up", "taskq_source_follower_up", "taskq_source_follower_lag_seconds", "taskq_source_problems"),
    *("taskq_source_collect_duration_seconds", "taskq_source_snapshot_age_seconds", "taskq_source_series"),
    *("taskq_tasks", "taskq_tasks_by_priority", "taskq_tasks_capped", "taskq_tasks_overdue"),
    *("taskq_oldest_task_age_seconds", "taskq_task_longest_run_seconds", "taskq_worker_longest_run_seconds"),
    *("taskq_queue_consumers", "taskq_queue_slots", "taskq_queue_paused"),
    *("taskq_queue_objective_wait_seconds", "taskq_queue_objective_ratio"),
    *("taskq_workers", "taskq_worker_up", "taskq_worker_slots", "taskq_worker_tasks"),
    *("taskq_worker_start_timestamp_seconds", "taskq_worker_last_heartbeat_timestamp_seconds"),
    *("taskq_scheduler_up", "taskq_scheduler_last_beat_timestamp_seconds"),
    *("taskq_schedule_last_run_timestamp_seconds", "taskq_schedule_next_run_timestamp_seconds"),
    *("taskq_broker_roundtrip_seconds", "taskq_broker_memory_bytes", "taskq_broker_memory_limit_bytes"),
    *("taskq_broker_connections", "taskq_broker_connections_limit", "taskq_broker_slow_statement_seconds"),
    # of the adapter host
    *("taskq_host_memory_bytes", "taskq_host_disk_bytes"),
)
#: Counters, recorded as their rates over these windows.
RATES = {
    "taskq_tasks_enqueued_total": ("5m",),
    "taskq_tasks_received_total": ("5m",),
    "taskq_tasks_started_total": ("5m",),
    "taskq_tasks_finished_total": ("5m", "15m"),
    "taskq_tasks_retried_total": ("5m",),
    "taskq_tasks_redelivered_total": ("5m",),
    "taskq_task_exceptions_total": ("5m",),
    "taskq_task_run_duration_seconds_bucket": ("5m",),
    "taskq_task_run_duration_seconds_sum": ("5m",),
    "taskq_task_run_duration_seconds_count": ("5m",),
    "taskq_task_wait_duration_seconds_bucket": ("5m",),
    "taskq_workers_lost_total": ("5m",),
    "taskq_workers_started_total": ("5m",),
    "taskq_worker_tasks_finished_total": ("5m",),
    "taskq_broker_commands_total": ("5m",),
    "taskq_source_errors_total": ("5m",),
    "taskq_source_commands_total": ("5m",),
    "taskq_source_events_total": ("5m",),
    "taskq_source_events_dropped_total": ("15m",),
    "taskq_source_label_overflow_total": ("15m",),
    # of the adapter host
    "taskq_host_cpu_seconds_total": ("5m",),
    "taskq_host_network_bytes_total": ("5m",),
    # of the adapter redis_pubsub
    "taskq_redis_pubsub_messages_total": ("5m",),
    "taskq_redis_pubsub_latency_seconds_bucket": ("5m",),
    "taskq_redis_pubsub_allocations_total": ("5m",),
    "taskq_redis_pubsub_allocation_duration_seconds_bucket": ("5m",),
}
#: Over which windows it is known what part of the tasks started too late for their queue's objective.
SLO_WINDOWS = ("5m", "30m", "1h", "6h")


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule."""

    name: str
    expression: str


def gauge(family: str) -> str:
    """The name under which a gauge is recorded."""
    return f"taskq:{family.removeprefix('taskq_')}:max"


def rate(counter: str, window: str = "5m") -> str:
    """The name under which the rate of a counter is recorded, by second."""
    return f"taskq:{counter.removeprefix('taskq_').removesuffix('_total')}:rate{window}"


def by(*labels: str) -> str:
    """A `by` clause that keeps what tells sources apart, and these labels."""
    return f"by ({', '.join((ID, *labels))})"


def records() -> list[Record]:
    """Every recording rule, in the order in which they build on each other."""
    found = [Record(gauge(family), f"max without ({AWAY}) ({family})") for family in GAUGES]
    found += [
        Record(rate(counter, window), f"max without ({AWAY}) (rate({counter}[{window}]))")
        for counter, windows in RATES.items()
        for window in windows
    ]
    infos = [_info("taskq_source_info", ID), _info("taskq_worker_info", f"{ID}, worker"), _annotations()]
    return [*found, *infos, *_queues(), *_objectives()]


def _info(family: str, of: str) -> Record:
    # one of each: a join fails where two exporters disagree, as while a new configuration or server is rolled out
    return Record(gauge(family), f"topk by ({of}) (1, max without ({AWAY}) ({family}))")


def _annotations() -> Record:
    """Also for a source without annotations, so that a join loses none."""
    info = _info("taskq_source_annotations_info", ID)
    without = f"max without ({AWAY}) (taskq_source_up) * 0 + 1 unless on ({ID}) taskq_source_annotations_info"
    return Record(info.name, f"{info.expression} or ({without})")


def _queues() -> list[Record]:
    """What alerts and dashboards ask of each queue, whatever the task."""
    found = [
        Record("taskq:queue_ready:sum", f'sum {by("queue")} ({gauge("taskq_tasks")}{{state="ready"}})'),
        Record("taskq:queue_running:sum", f'sum {by("queue")} ({gauge("taskq_tasks")}{{state="running"}})'),
    ]
    for window in RATES["taskq_tasks_finished_total"]:
        finished = rate("taskq_tasks_finished_total", window)
        found += [
            Record(f"taskq:queue_finished:rate{window}", f"sum {by('queue')} ({finished})"),
            Record(f"taskq:queue_failed:rate{window}", f"sum {by('queue')} ({finished}{{{FAILED}}})"),
        ]
    drain = "taskq:queue_ready:sum / (taskq:queue_finished:rate15m > 0)"
    return [*found, Record("taskq:queue_drain:seconds", drain)]


def _objectives() -> list[Record]:
    """What part of the tasks started later than their queue's objective, which is a bound of the histogram."""
    wait = gauge("taskq_queue_objective_wait_seconds")
    bounds = Record(
        "taskq:queue_objective_wait:le",
        # a bound is written 30.0 where a value is written 30
        f'label_replace(count_values without () ("le", {wait}), "le", "$1.0", "le", "([0-9]+)")',
    )
    found = [bounds]
    for window in SLO_WINDOWS:
        bucket = f"max without ({AWAY}) (rate(taskq_task_wait_duration_seconds_bucket[{window}]))"
        count = f"max without ({AWAY}) (rate(taskq_task_wait_duration_seconds_count[{window}]))"
        on_time = f"sum without (le) ({bucket} and on ({ID}, queue, le) {bounds.name})"
        found.append(Record(f"taskq:queue_late:ratio_rate{window}", f"1 - {on_time} / ({count} > 0)"))
    return found
