"""One source: can it be read, is it followed, how is its broker, what is due."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import OF_SOURCE, Dashboard, Panel, Query, Row
from taskq_exporter.mixin.recording import by, gauge, rate

__all__ = ["SOURCE"]

LEGEND = "{{source}}"


def _legend(*labels: str) -> str:
    return " ".join((LEGEND, *(f"{{{{{label}}}}}" for label in labels)))


def _gauge(title: str, description: str, family: str, unit: str = "short", labels: tuple[str, ...] = ()) -> Panel:
    query = Query(f"max {by(*labels)} ({gauge(family)}{{{OF_SOURCE}}})", _legend(*labels))
    return Panel(title=title, description=description, queries=[query], unit=unit)


def _rate(
    title: str, description: str, counter: str, *labels: str, window: str = "5m", unit: str = "ops", width: int = 8
) -> Panel:
    expression = f"sum {by(*labels)} ({rate(counter, window)}{{{OF_SOURCE}}})"
    if window == "15m":  # what should never happen has no series before it does
        expression = f"{expression} or 0 * sum {by()} ({gauge('taskq_source_up')}{{{OF_SOURCE}}})"
    query = Query(expression, _legend(*labels))
    return Panel(title=title, description=description, queries=[query], unit=unit, width=width)


_READ = Row(
    "Reading it",
    [
        _gauge("Up", "1 while it can be read.", "taskq_source_up"),
        _gauge("Time to collect", "How long the last look took.", "taskq_source_collect_duration_seconds", "s"),
        _gauge("Age of what is shown", "Above 0 where looks are rationed.", "taskq_source_snapshot_age_seconds", "s"),
        _rate("Errors", "Failed looks and unreadable parts, a second.", "taskq_source_errors_total", "reason"),
        _gauge("Unreadable parts", "What cannot be read now.", "taskq_source_problems"),
        _rate("Commands sent", "By the exporter, a second.", "taskq_source_commands_total"),
    ],
)
_FOLLOWED = Row(
    "Following it",
    [
        _gauge("Follower", "1 while what happens is counted.", "taskq_source_follower_up"),
        _gauge("Lag", "How far the follower is behind.", "taskq_source_follower_lag_seconds", "s"),
        _rate("Events read", "Events or rows, a second.", "taskq_source_events_total"),
        _rate("Events dropped", "Not counted, a second.", "taskq_source_events_dropped_total", "reason", window="15m"),
        _gauge("Series", "That it puts on the page.", "taskq_source_series"),
        _rate("Names over a limit", "Refused, a second.", "taskq_source_label_overflow_total", "label", window="15m"),
    ],
)
_BROKER = Row(
    "Broker",
    [
        _gauge("Round trip", "How long the broker takes to answer.", "taskq_broker_roundtrip_seconds", "s"),
        Panel(
            title="Memory",
            description="That the broker uses, and may use.",
            queries=[
                Query(f"max {by()} ({gauge('taskq_broker_memory_bytes')}{{{OF_SOURCE}}})", "{{source}} used"),
                Query(f"max {by()} ({gauge('taskq_broker_memory_limit_bytes')}{{{OF_SOURCE}}})", "{{source}} limit"),
            ],
            unit="bytes",
        ),
        Panel(
            title="Connections",
            description="To the broker, and how many it accepts.",
            queries=[
                Query(
                    f"sum {by('state')} ({gauge('taskq_broker_connections')}{{{OF_SOURCE}}})", "{{source}} {{state}}"
                ),
                Query(f"max {by()} ({gauge('taskq_broker_connections_limit')}{{{OF_SOURCE}}})", "{{source}} limit"),
            ],
        ),
        _gauge(
            "Slowest statements",
            "Mean time of the slowest kind of statement in a database.",
            "taskq_broker_slow_statement_seconds",
            "s",
        ),
        Panel(
            title="Commands",
            description="That the broker runs, a second, by kind; the most frequent twenty.",
            queries=[
                Query(
                    f"topk(20, sum {by('command')} ({rate('taskq_broker_commands_total')}{{{OF_SOURCE}}}))",
                    "{{source}} {{command}}",
                )
            ],
            unit="ops",
            width=16,
        ),
    ],
)
_SCHEDULES = Row(
    "Schedules",
    [
        _gauge("Schedulers", "1 while they send what is due.", "taskq_scheduler_up", labels=("scheduler",)),
        Panel(
            title="Heard of",
            description="How long ago each scheduler was heard of.",
            queries=[
                Query(
                    f"time() - max {by('scheduler')}"
                    f" ({gauge('taskq_scheduler_last_beat_timestamp_seconds')}{{{OF_SOURCE}}})",
                    "{{source}} {{scheduler}}",
                )
            ],
            unit="s",
        ),
        Panel(
            title="Last run",
            description="How long ago each entry last ran; the twenty longest.",
            queries=[
                Query(
                    f"topk(20, time() - max {by('scheduler', 'entry')}"
                    f" ({gauge('taskq_schedule_last_run_timestamp_seconds')}{{{OF_SOURCE}}}))",
                    "{{source}} {{entry}}",
                )
            ],
            unit="s",
        ),
        Panel(
            title="Overdue",
            description="By how much each entry is late; below 0 it is not due yet.",
            queries=[
                Query(
                    f"topk(20, time() - max {by('scheduler', 'entry')}"
                    f" ({gauge('taskq_schedule_next_run_timestamp_seconds')}{{{OF_SOURCE}}}))",
                    "{{source}} {{entry}}",
                )
            ],
            unit="s",
            minimum=None,
        ),
    ],
)


def _used(title: str, description: str, family: str, *labels: str) -> Panel:
    all_of_it = f"{gauge(family)}{{{OF_SOURCE}}}"
    part = all_of_it.replace("{", '{state="used",', 1)
    query = Query(f"sum {by(*labels)} ({part}) / sum {by(*labels)} ({all_of_it})", _legend(*labels))
    return Panel(title=title, description=description, queries=[query], unit="percentunit", maximum=1, width=6)


_CPU = rate("taskq_host_cpu_seconds_total")
_AT_REST = f'sum {by()} ({_CPU}{{{OF_SOURCE},mode=~"idle|iowait"}})'
_MACHINE = Row(
    "Machine (of sources of the adapter host)",
    [
        Panel(
            title="CPU",
            description="What part of all CPUs works.",
            queries=[Query(f"1 - {_AT_REST} / sum {by()} ({_CPU}{{{OF_SOURCE}}})", LEGEND)],
            unit="percentunit",
            maximum=1,
            width=6,
        ),
        _used("Memory of the machine", "What part is used.", "taskq_host_memory_bytes"),
        _used("Disks", "What part of each file system is used.", "taskq_host_disk_bytes", "mount"),
        _rate(
            "Network",
            "Through each device.",
            "taskq_host_network_bytes_total",
            *("device", "direction"),
            unit="Bps",
            width=6,
        ),
    ],
    collapsed=True,
)


def _latency(title: str, description: str, family: str, *labels: str) -> Panel:
    buckets = f"sum {by(*labels, 'le')} ({rate(f'{family}_bucket')}{{{OF_SOURCE}}})"
    query = Query(f"histogram_quantile(0.95, {buckets})", _legend(*labels))
    return Panel(title=title, description=description, queries=[query], unit="s", width=6)


_ALLOCATOR = Row(
    "Allocator (of sources of the adapter redis_pubsub)",
    [
        _rate(
            "Messages",
            "Published on each channel, a second.",
            "taskq_redis_pubsub_messages_total",
            *("channel", "kind"),
            width=6,
        ),
        _latency("Latency, p95", "From publishing to arrival.", "taskq_redis_pubsub_latency_seconds", "channel"),
        _rate(
            "Allocations",
            "Tasks given to a worker, a second, by queue and method.",
            "taskq_redis_pubsub_allocations_total",
            *("queue", "method"),
            width=6,
        ),
        _latency(
            "Time to allocate, p95",
            "From allocation to arrival at the worker's channel.",
            "taskq_redis_pubsub_allocation_duration_seconds",
            *("queue", "method"),
        ),
    ],
    collapsed=True,
)

SOURCE = Dashboard(
    uid="taskq-source",
    title="Source and broker",
    description="One source: can it be read, is it followed, how is its broker, what is due.",
    rows=[_READ, _FOLLOWED, _BROKER, _SCHEDULES, _MACHINE, _ALLOCATOR],
)
