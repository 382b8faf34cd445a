"""Workers: who is there, what they do, how well."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import OF_SOURCE, Dashboard, Panel, Query, Row
from taskq_exporter.mixin.recording import FAILED, ID, by, gauge, rate

__all__ = ["WORKERS"]

LEGEND = "{{source}} {{worker}}"
TASKS, SLOTS = gauge("taskq_worker_tasks"), gauge("taskq_worker_slots")
CAME = f"sum by (source) ({rate('taskq_workers_started_total')}{{{OF_SOURCE}}})"
OF_WORKER = f"sum {by('worker')} ({SLOTS}{{{OF_SOURCE}}})"


def _tasks(state: str) -> str:
    return f'sum {by("worker")} ({TASKS}{{{OF_SOURCE},state="{state}"}})'


RUNNING = _tasks("running")


def _ended(outcome: str = "") -> str:
    """What the backend counts of each worker, else what is counted here, with `worker` in `task_labels`."""
    told, counted = rate("taskq_worker_tasks_finished_total"), rate("taskq_tasks_finished_total")
    of = f"{OF_SOURCE},{outcome}" if outcome else OF_SOURCE
    return f'sum {by("worker")} ({told}{{{of}}}) or sum {by("worker")} ({counted}{{{of},worker!=""}})'


def _held(state: str, what: str) -> Panel:
    return Panel(
        title=f"{state.capitalize()} tasks",
        description=what,
        queries=[Query(f"topk(20, {_tasks(state)})", LEGEND)],
    )


_FLEET = Row(
    "Fleet",
    [
        Panel(
            title="Workers by state",
            description="Silent ones listen and do not answer.",
            queries=[Query(f"sum by (state) ({gauge('taskq_workers')}{{{OF_SOURCE}}})", "{{state}}")],
            stacked=True,
        ),
        Panel(
            title="Slots in use",
            description="Running tasks for each slot, by source.",
            queries=[
                Query(
                    f'sum {by()} ({TASKS}{{{OF_SOURCE},state="running"}}) / (sum {by()} ({SLOTS}{{{OF_SOURCE}}}) > 0)',
                    "{{source}}",
                )
            ],
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="Workers that came and went",
            description="Workers seen for the first time, a second, and those gone without a goodbye.",
            queries=[
                Query(CAME, "{{source}} came"),
                Query(
                    f"sum by (source) ({rate('taskq_workers_lost_total')}{{{OF_SOURCE}}}) or 0 * {CAME}",
                    "{{source}} lost",
                ),
            ],
            unit="ops",
        ),
    ],
)
_EACH = Row(
    "Each worker",
    [
        Panel(
            title="Workers",
            description="1 is up.",
            queries=[
                Query(f"max {by('worker')} ({gauge('taskq_worker_up')}{{{OF_SOURCE}}})", "Up"),
                Query(RUNNING, "Running"),
                Query(_tasks("reserved"), "Reserved"),
                Query(_tasks("scheduled"), "Scheduled"),
                Query(OF_WORKER, "Slots"),
                Query(f"{RUNNING} / on ({ID}, worker) ({OF_WORKER} > 0)", "In use", "percentunit"),
                Query(
                    f"time() - max {by('worker')} ({gauge('taskq_worker_start_timestamp_seconds')}{{{OF_SOURCE}}})",
                    "Uptime",
                    "s",
                ),
                Query(
                    f"time() - max {by('worker')}"
                    f" ({gauge('taskq_worker_last_heartbeat_timestamp_seconds')}{{{OF_SOURCE}}})",
                    "Heard of, ago",
                    "s",
                ),
            ],
            kind="table",
            width=24,
            columns=("source", "worker"),
        ),
        _held("running", "Tasks that each worker runs; the busiest twenty."),
        _held("reserved", "Tasks that each worker holds and has not started; the twenty that hold most."),
        Panel(
            title="Longest run now",
            description="By worker.",
            queries=[
                Query(
                    f"topk(10, max {by('worker')} ({gauge('taskq_worker_longest_run_seconds')}{{{OF_SOURCE}}}))", LEGEND
                )
            ],
            unit="s",
            kind="bargauge",
        ),
        Panel(
            title="Ended, by worker",
            description="Tasks a second; the twenty that end most.",
            queries=[Query(f"topk(20, {_ended()})", LEGEND)],
            unit="ops",
            width=12,
        ),
        Panel(
            title="Failure ratio, by worker",
            description="Of the tasks that it ended: where the queue system says it, or `task_labels` name `worker`.",
            queries=[
                Query(
                    f"topk(10, ({_ended(FAILED)}) / on ({ID}, worker) (({_ended()}) > 0))",
                    LEGEND,
                )
            ],
            unit="percentunit",
            maximum=1,
            width=12,
        ),
    ],
)

WORKERS = Dashboard(
    uid="taskq-workers",
    title="Workers",
    description="Workers: who is there, what they hold, how well they do.",
    rows=[_FLEET, _EACH],
)
