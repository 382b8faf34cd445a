"""All sources at a glance: what is stuck, what fails, what is not known."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import OF_SOURCE, Dashboard, Panel, Query, Row
from taskq_exporter.mixin.recording import FAILED, ID, by, gauge, rate

__all__ = ["OVERVIEW"]

TASKS, AGE = gauge("taskq_tasks"), gauge("taskq_oldest_task_age_seconds")
READY = f"taskq:queue_ready:sum{{{OF_SOURCE}}}"
RUNNING = f"taskq:queue_running:sum{{{OF_SOURCE}}}"
OLDEST = f'max {by("queue")} ({AGE}{{{OF_SOURCE},state="ready"}})'
FINISHED, QUEUE_FAILED = f"taskq:queue_finished:rate5m{{{OF_SOURCE}}}", f"taskq:queue_failed:rate5m{{{OF_SOURCE}}}"
WORKERS = f'{gauge("taskq_workers")}{{{OF_SOURCE},state=~"idle|busy|paused|draining"}}'
UP = f"{gauge('taskq_source_up')}{{{OF_SOURCE}}}"
QUEUE = "{{source}} {{queue}}"

_NOW = Row(
    "Now",
    [
        Panel(
            title="Sources down",
            description="Brokers and databases that cannot be read.",
            queries=[Query(f"count({UP} == 0) or 0 * count({UP})")],
            kind="stat",
            width=4,
            bad=1,
        ),
        Panel(
            title="Ready tasks",
            description="Tasks that could run now, in all queues.",
            queries=[Query(f"sum({READY})")],
            kind="stat",
            width=4,
        ),
        Panel(
            title="Oldest ready task",
            description="How long the task that waits longest could have run already.",
            queries=[Query(f"max({OLDEST})")],
            kind="stat",
            unit="s",
            width=4,
            warn=60,
            bad=300,
        ),
        Panel(
            title="Running tasks",
            description="Tasks that workers run now.",
            queries=[Query(f"sum({RUNNING})")],
            kind="stat",
            width=4,
        ),
        Panel(
            title="Success ratio",
            description="Of the tasks that ended in the last five minutes.",
            queries=[Query(f"1 - sum({QUEUE_FAILED}) / (sum({FINISHED}) > 0) or 1 - 0 * sum({FINISHED})")],
            kind="stat",
            unit="percentunit",
            width=4,
            warn=0.99,
            bad=0.95,
        ),
        Panel(
            title="Workers",
            description="Workers that are alive.",
            queries=[Query(f"sum({WORKERS})")],
            kind="stat",
            width=4,
        ),
    ],
)
_QUEUES = Row(
    "Queues",
    [
        Panel(
            title="Queues, the latest first",
            description="A cell is empty where the queue system does not tell.",
            queries=[
                Query(f"sort_desc({OLDEST})", "Oldest", "s"),
                Query(READY, "Ready"),
                Query(RUNNING, "Running"),
                Query(f"sum {by('queue')} ({gauge('taskq_queue_consumers')}{{{OF_SOURCE}}})", "Consumers"),
                Query(FINISHED, "Ended", "ops"),
                Query(QUEUE_FAILED, "Failed", "ops"),
                Query(f"taskq:queue_drain:seconds{{{OF_SOURCE}}}", "Drained in", "s"),
            ],
            kind="table",
            width=24,
            columns=("source", "queue"),
            leads_to="taskq-queue",
        ),
        Panel(
            title="Ready tasks",
            description="By queue, the longest twenty.",
            queries=[Query(f"topk(20, {READY})", QUEUE)],
            width=12,
            leads_to="taskq-queue",
        ),
        Panel(
            title="Oldest ready task",
            description="By queue, the latest twenty.",
            queries=[Query(f"topk(20, {OLDEST})", QUEUE)],
            unit="s",
            width=12,
            leads_to="taskq-queue",
        ),
    ],
)
_TASKS = Row(
    "Tasks",
    [
        Panel(
            title="Throughput",
            description="Tasks put into queues, ended, failed and retried, a second.",
            queries=[
                Query(f"sum({rate('taskq_tasks_enqueued_total')}{{{OF_SOURCE}}})", "enqueued"),
                Query(f"sum({FINISHED})", "ended"),
                Query(f"sum({QUEUE_FAILED})", "failed"),
                Query(f"sum({rate('taskq_tasks_retried_total')}{{{OF_SOURCE}}})", "retried"),
            ],
            unit="ops",
            width=8,
        ),
        Panel(
            title="Failures",
            description="Tasks that ended badly, a second, by task; the ten worst.",
            queries=[
                Query(
                    f"topk(10, sum by (source, task) ({rate('taskq_tasks_finished_total')}{{{OF_SOURCE},{FAILED}}}))",
                    "{{source}} {{task}}",
                )
            ],
            unit="ops",
            width=8,
            leads_to="taskq-tasks",
        ),
        Panel(
            title="Wait to start, p95",
            description="From when a task could run to its start, by source.",
            queries=[
                Query(
                    f"histogram_quantile(0.95, sum {by('le')}"
                    f" ({rate('taskq_task_wait_duration_seconds_bucket')}{{{OF_SOURCE}}}))",
                    "{{source}}",
                )
            ],
            unit="s",
            width=8,
        ),
    ],
)
_SOURCES = Row(
    "Sources",
    [
        Panel(
            title="Sources",
            description="What is watched.",
            queries=[
                Query(
                    f"{UP} * on ({ID}) group_left (adapter, server, server_version) {gauge('taskq_source_info')}",
                    "Up",
                ),
            ],
            kind="table",
            width=12,
            columns=("source", "adapter", "server", "server_version"),
            leads_to="taskq-source",
        ),
        Panel(
            title="Workers",
            description="By source and state.",
            queries=[
                Query(f"sum by (source, state) ({gauge('taskq_workers')}{{{OF_SOURCE}}})", "{{source}} {{state}}")
            ],
            width=12,
            stacked=True,
            leads_to="taskq-workers",
        ),
    ],
)

OVERVIEW = Dashboard(
    uid="taskq-overview",
    title="Overview",
    description="All task queues: what is stuck, what fails, who works.",
    rows=[_NOW, _QUEUES, _TASKS, _SOURCES],
)
