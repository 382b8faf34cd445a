"""Alerts about workers, schedules, sources, brokers, and the exporter itself."""

from __future__ import annotations

from taskq_exporter.mixin.alert import Alert
from taskq_exporter.mixin.recording import ID, by, gauge, rate
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["brokers", "exporters", "schedules", "sources", "workers"]


def workers(t: Thresholds) -> list[Alert]:
    """Gone, down, silent."""
    here = f'sum {by()} ({gauge("taskq_workers")}{{state=~"idle|busy|paused|draining|silent"}})'
    return [
        Alert(
            name="TaskqNoWorkers",
            expression=f"{here} == 0 and on ({ID}) sum {by()} (taskq:queue_ready:sum) > 0",
            severity="critical",
            dashboard="workers",
            summary="{{ $labels.source }} has no worker",
            description="Tasks are ready, and no worker is alive.",
        ),
        Alert(
            name="TaskqWorkersGone",
            # of all, not one by one: fleets that scale change their names all day
            expression=f"{here} < {t.workers_ratio:g} * max_over_time(({here})[1h:1m])",
            wait="10m",
            dashboard="workers",
            summary="Workers of {{ $labels.source }} are gone",
            description="Only {{ $value }} are left of those of the last hour.",
        ),
        Alert(
            name="TaskqWorkerDown",
            expression=f"min {by('worker')} ({gauge('taskq_worker_up')}) == 0",
            dashboard="workers",
            summary="Worker {{ $labels.worker }} of {{ $labels.source }} is down",
            description="It was not heard of for some minutes, and did not say goodbye.",
        ),
        Alert(
            name="TaskqWorkersSilent",
            expression=f'sum {by()} ({gauge("taskq_workers")}{{state="silent"}}) > 0',
            wait="10m",
            dashboard="workers",
            summary="Workers of {{ $labels.source }} listen and do not answer",
            description="{{ $value }} of them hold a connection, and nothing else is heard of them.",
        ),
    ]


def schedules(t: Thresholds) -> list[Alert]:
    """Silent, overdue."""
    due = gauge("taskq_schedule_next_run_timestamp_seconds")
    return [
        Alert(
            name="TaskqSchedulerDown",
            expression=f"max {by('scheduler')} ({gauge('taskq_scheduler_up')}) == 0",
            severity="critical",
            dashboard="source",
            summary="Scheduler {{ $labels.scheduler }} of {{ $labels.source }} is silent",
            description="Periodic tasks are not sent.",
        ),
        Alert(
            name="TaskqScheduleOverdue",
            expression=f"time() - max {by('scheduler', 'entry')} ({due}) > {t.overdue_seconds:g}",
            dashboard="source",
            summary="{{ $labels.entry }} of {{ $labels.source }} is overdue",
            description="It should have been sent {{ $value | humanizeDuration }} ago.",
        ),
    ]


def sources(t: Thresholds) -> list[Alert]:
    """Down, not followed, not complete."""
    dropped = rate("taskq_source_events_dropped_total", "15m")
    return [
        Alert(
            name="TaskqSourceDown",
            expression=f"max {by()} ({gauge('taskq_source_up')}) == 0",
            severity="critical",
            dashboard="source",
            summary="{{ $labels.source }} cannot be read",
            description="Its broker or database is down, or refuses the exporter: nothing is known of its queues.",
        ),
        Alert(
            name="TaskqFollowerDown",
            expression=f"max {by()} ({gauge('taskq_source_follower_up')}) == 0"
            f" and on ({ID}) max {by()} ({gauge('taskq_source_up')}) == 1",
            dashboard="source",
            summary="What happens in {{ $labels.source }} is not counted",
            description="Its follower does not follow: counters and histograms stand still.",
        ),
        Alert(
            name="TaskqFollowerLate",
            expression=f"min {by()} ({gauge('taskq_source_follower_lag_seconds')}) > {t.lag_seconds:g}",
            dashboard="source",
            summary="What happens in {{ $labels.source }} is counted late",
            description="Its follower is {{ $value | humanizeDuration }} behind.",
        ),
        Alert(
            name="TaskqEventsDropped",
            expression=f"max {by('reason')} ({dropped}) > 0",
            dashboard="source",
            summary="Counters of {{ $labels.source }} are too low",
            description="Events were not counted ({{ $labels.reason }}): {{ $value | humanize }} a second.",
        ),
        Alert(
            name="TaskqCountsCapped",
            expression=f"max {by('queue', 'state')} ({gauge('taskq_tasks_capped')}) == 1",
            wait="15m",
            dashboard="source",
            summary="Queue {{ $labels.queue }} of {{ $labels.source }} is longer than can be counted",
            description="The number of its {{ $labels.state }} tasks is a lower bound.",
        ),
        Alert(
            name="TaskqLabelsOverflow",
            expression=f"max {by('label')} ({rate('taskq_source_label_overflow_total', '15m')}) > 0",
            wait="15m",
            dashboard="source",
            summary="{{ $labels.source }} has more values of {{ $labels.label }} than its limit",
            description="The rest stands under _other, or is left out.",
        ),
    ]


def brokers(t: Thresholds) -> list[Alert]:
    """Nearly full."""
    memory, limit = gauge("taskq_broker_memory_bytes"), gauge("taskq_broker_memory_limit_bytes")
    connections = f"sum {by()} ({gauge('taskq_broker_connections')})"
    slots = f"max {by()} ({gauge('taskq_broker_connections_limit')})"
    return [
        Alert(
            name="TaskqBrokerMemory",
            expression=f"max {by()} ({memory}) / max {by()} ({limit}) > {t.broker_ratio:g}",
            dashboard="source",
            summary="The broker of {{ $labels.source }} is nearly full",
            description="{{ $value | humanizePercentage }} of its memory is used.",
        ),
        Alert(
            name="TaskqBrokerConnections",
            expression=f"{connections} / {slots} > {t.broker_ratio:g}",
            dashboard="source",
            summary="The broker of {{ $labels.source }} has few connections left",
            description="{{ $value | humanizePercentage }} of them are used.",
        ),
    ]


def exporters(_: Thresholds) -> list[Alert]:
    """Not scraped, not reloaded, not writing."""
    return [
        Alert(
            name="TaskqExporterDown",
            expression="absent(taskq_exporter_build_info)",
            severity="critical",
            dashboard="exporter",
            summary="taskq-exporter is not scraped",
            description="Nothing is known of any queue.",
            of_source=False,
        ),
        Alert(
            name="TaskqReloadFailed",
            expression="taskq_exporter_config_last_reload_successful == 0",
            dashboard="exporter",
            summary="taskq-exporter {{ $labels.instance }} runs an old configuration",
            description="The new one has a mistake: the log says in which line.",
            of_source=False,
        ),
        Alert(
            name="TaskqCheckpointFailed",
            expression="taskq_exporter_checkpoint_last_write_successful == 0",
            dashboard="exporter",
            summary="taskq-exporter {{ $labels.instance }} cannot write its checkpoints",
            description="Counters stand still until it can.",
            of_source=False,
        ),
    ]
