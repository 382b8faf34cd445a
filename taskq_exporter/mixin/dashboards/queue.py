"""One queue: its tasks, its pace, its workers, its objective."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import OF_QUEUE, OF_SOURCE, Dashboard, Panel, Query, Row
from taskq_exporter.mixin.recording import ID, by, gauge, rate

__all__ = ["QUEUE"]

LEGEND = "{{source}} {{queue}}"
WAIT = f"sum {by('queue', 'le')} ({rate('taskq_task_wait_duration_seconds_bucket')}{{{OF_QUEUE}}})"
SLOTS = f"sum {by('queue')} ({gauge('taskq_queue_slots')}{{{OF_QUEUE}}})"

_TASKS = Row(
    "Tasks",
    [
        Panel(
            title="Tasks by state",
            description="Each stored task is in exactly one state.",
            queries=[Query(f"sum by (state) ({gauge('taskq_tasks')}{{{OF_QUEUE}}})", "{{state}}")],
            stacked=True,
        ),
        Panel(
            title="Oldest ready task",
            description="How long it could have run already, and the queue's objective.",
            queries=[
                Query(
                    f'max {by("queue")} ({gauge("taskq_oldest_task_age_seconds")}{{{OF_QUEUE},state="ready"}})', LEGEND
                ),
                Query(
                    f"max {by('queue')} ({gauge('taskq_queue_objective_wait_seconds')}{{{OF_QUEUE}}})",
                    f"objective of {LEGEND}",
                ),
            ],
            unit="s",
        ),
        Panel(
            title="Ready by priority",
            description="Where the queue system splits them.",
            queries=[
                Query(
                    f'sum by (priority) ({gauge("taskq_tasks_by_priority")}{{{OF_QUEUE},state="ready"}})',
                    "{{priority}}",
                )
            ],
            stacked=True,
        ),
    ],
)
_PACE = Row(
    "Pace",
    [
        Panel(
            title="In and out",
            description="Tasks put into the queue, started and ended, a second.",
            queries=[
                Query(f"sum({rate('taskq_tasks_enqueued_total')}{{{OF_QUEUE}}})", "enqueued"),
                Query(f"sum({rate('taskq_tasks_started_total')}{{{OF_QUEUE}}})", "started"),
                Query(f"sum(taskq:queue_finished:rate5m{{{OF_QUEUE}}})", "ended"),
                Query(f"sum(taskq:queue_failed:rate5m{{{OF_QUEUE}}})", "failed"),
            ],
            unit="ops",
        ),
        Panel(
            title="Time to drain",
            description="What the ready tasks need at the pace of the last 15 minutes.",
            queries=[Query(f"taskq:queue_drain:seconds{{{OF_QUEUE}}}", LEGEND)],
            unit="s",
        ),
        Panel(
            title="Wait to start",
            description="From when a task could run to its start.",
            queries=[
                Query(f"histogram_quantile(0.5, {WAIT})", f"p50 {LEGEND}"),
                Query(f"histogram_quantile(0.95, {WAIT})", f"p95 {LEGEND}"),
            ],
            unit="s",
        ),
    ],
)
_WORKERS = Row(
    "Workers",
    [
        Panel(
            title="Consumers",
            description="Workers that read the queue.",
            queries=[Query(f"sum {by('queue')} ({gauge('taskq_queue_consumers')}{{{OF_QUEUE}}})", LEGEND)],
        ),
        Panel(
            title="Slots in use",
            description="Running tasks for each slot of the workers that read the queue. They may read others, too.",
            queries=[
                Query(
                    f"taskq:queue_running:sum{{{OF_QUEUE}}} / on ({ID}, queue) ({SLOTS} > 0)",
                    LEGEND,
                )
            ],
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="Overdue",
            description="Ready tasks that the queue system itself should have moved by now.",
            queries=[Query(f"sum {by('queue')} ({gauge('taskq_tasks_overdue')}{{{OF_QUEUE}}})", LEGEND)],
        ),
        Panel(
            title="Paused",
            description="1 while nobody may take tasks from the queue.",
            queries=[Query(f"max {by('queue')} ({gauge('taskq_queue_paused')}{{{OF_QUEUE}}})", LEGEND)],
        ),
        Panel(
            title="Longest runs now",
            description="By task.",
            queries=[
                Query(
                    f"topk(10, max by (source, queue, task) ({gauge('taskq_task_longest_run_seconds')}{{{OF_QUEUE}}}))",
                    "{{task}}",
                )
            ],
            unit="s",
            kind="bargauge",
        ),
    ],
)
_OBJECTIVE = Row(
    "Objective",
    [
        Panel(
            title="Tasks that started too late",
            description="What part started later than the queue's objective.",
            queries=[
                Query(f"taskq:queue_late:ratio_rate5m{{{OF_QUEUE}}}", f"5 minutes {LEGEND}"),
                Query(f"taskq:queue_late:ratio_rate1h{{{OF_QUEUE}}}", f"1 hour {LEGEND}"),
            ],
            unit="percentunit",
            width=12,
        ),
        Panel(
            title="Burn rate of the error budget",
            description="1 uses it up in 30 days, 14.4 in two.",
            queries=[
                Query(
                    f"taskq:queue_late:ratio_rate{window}{{{OF_QUEUE}}} / on ({ID}, queue)"
                    f" (1 - {gauge('taskq_queue_objective_ratio')}{{{OF_SOURCE}}})",
                    f"{window} {LEGEND}",
                )
                for window in ("5m", "1h", "6h")
            ],
            width=12,
        ),
    ],
)

QUEUE = Dashboard(
    uid="taskq-queue",
    title="Queue",
    description="One queue, or the sum of some: tasks, pace, workers, objective.",
    rows=[_TASKS, _PACE, _WORKERS, _OBJECTIVE],
    variables=("cluster", "namespace", "job", "source", "queue"),
)
