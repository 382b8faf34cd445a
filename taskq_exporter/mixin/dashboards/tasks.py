"""Tasks by name: pace, run times, failures."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import OF_QUEUE, Dashboard, Panel, Query, Row
from taskq_exporter.mixin.recording import FAILED, gauge, rate

__all__ = ["TASKS"]

LEGEND = "{{source}} {{task}}"
FINISHED = rate("taskq_tasks_finished_total")
RUN = rate("taskq_task_run_duration_seconds_bucket")
SUM, COUNT = rate("taskq_task_run_duration_seconds_sum"), rate("taskq_task_run_duration_seconds_count")
ENDED = f"sum by (outcome) (sum_over_time({FINISHED}{{{OF_QUEUE}}}[$__range:1m]))"


def _most(title: str, description: str, counted: str) -> Panel:
    query = Query(f"topk(20, sum by (source, task) ({counted}{{{OF_QUEUE}}}))", LEGEND)
    return Panel(title=title, description=description, queries=[query], unit="ops")


def _percentile(q: float, title: str) -> Panel:
    expression = f"histogram_quantile({q:g}, sum by (source, task, le) ({RUN}{{{OF_QUEUE}}}))"
    return Panel(
        title=title, description="One attempt, start to end, by task.", queries=[Query(expression, LEGEND)], unit="s"
    )


_PACE = Row(
    "Pace",
    [
        Panel(
            title="Ended",
            description="Tasks that ended for good, a second, by outcome.",
            queries=[Query(f"sum by (outcome) ({FINISHED}{{{OF_QUEUE}}})", "{{outcome}}")],
            unit="ops",
            stacked=True,
        ),
        _most("Ended, by task", "The twenty that end most often.", FINISHED),
        _most("Enqueued, by task", "The twenty that are sent most often.", rate("taskq_tasks_enqueued_total")),
        _most(
            "Received, by task",
            "The twenty that workers are given most often, each attempt.",
            rate("taskq_tasks_received_total"),
        ),
        Panel(
            title="Success ratio",
            description="Of the tasks that ended, by source.",
            queries=[
                Query(
                    f"1 - (sum by (source) ({FINISHED}{{{OF_QUEUE},{FAILED}}}) or 0 * sum by (source)"
                    f" ({FINISHED}{{{OF_QUEUE}}})) / (sum by (source) ({FINISHED}{{{OF_QUEUE}}}) > 0)",
                    "{{source}}",
                )
            ],
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="Ended in the chosen time",
            description="About how many, by outcome: rates of five minutes, added up.",
            # the rate of each minute times its seconds: right also where exporters came and went
            queries=[Query(f"round(60 * {ENDED})", "{{outcome}}")],
            kind="bargauge",
        ),
    ],
)
_RUNS = Row(
    "Run times",
    [
        _percentile(0.5, "p50"),
        _percentile(0.95, "p95"),
        _percentile(0.99, "p99"),
        Panel(
            title="Mean",
            description="One attempt, start to end, by task.",
            queries=[
                Query(
                    f"sum by (source, task) ({SUM}{{{OF_QUEUE}}})"
                    f" / (sum by (source, task) ({COUNT}{{{OF_QUEUE}}}) > 0)",
                    LEGEND,
                )
            ],
            unit="s",
        ),
        Panel(
            title="Attempts by run time",
            description="How many attempts ended within each bound, a second.",
            queries=[Query(f"sum by (le) ({RUN}{{{OF_QUEUE}}})", "{{le}} s")],
            unit="ops",
        ),
        Panel(
            title="Longest runs now",
            description="What may be stuck.",
            queries=[
                Query(
                    f"topk(10, max by (source, task) ({gauge('taskq_task_longest_run_seconds')}{{{OF_QUEUE}}}))", LEGEND
                )
            ],
            unit="s",
            kind="bargauge",
        ),
    ],
)
_FAILURES = Row(
    "Failures",
    [
        Panel(
            title="Failed, by task",
            description="Tasks that ended badly, a second.",
            queries=[Query(f"topk(10, sum by (source, task) ({FINISHED}{{{OF_QUEUE},{FAILED}}}))", LEGEND)],
            unit="ops",
        ),
        Panel(
            title="Failure ratio, by task",
            description="Of those that ended.",
            queries=[
                Query(
                    f"topk(10, sum by (source, task) ({FINISHED}{{{OF_QUEUE},{FAILED}}})"
                    f" / (sum by (source, task) ({FINISHED}{{{OF_QUEUE}}}) > 0))",
                    LEGEND,
                )
            ],
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="Exceptions",
            description="Attempts ended by an exception, a second, by its class.",
            queries=[
                Query(
                    f"topk(10, sum by (source, task, exception) ({rate('taskq_task_exceptions_total')}{{{OF_QUEUE}}}))",
                    "{{task}} {{exception}}",
                )
            ],
            unit="ops",
        ),
        Panel(
            title="Retries, by task",
            description="Attempts that are tried again, a second.",
            queries=[
                Query(f"topk(10, sum by (source, task) ({rate('taskq_tasks_retried_total')}{{{OF_QUEUE}}}))", LEGEND)
            ],
            unit="ops",
        ),
        Panel(
            title="Retry ratio",
            description="Retries for each task that ended.",
            queries=[
                Query(
                    f"sum by (source, queue) ({rate('taskq_tasks_retried_total')}{{{OF_QUEUE}}})"
                    f" / (sum by (source, queue) ({FINISHED}{{{OF_QUEUE}}}) > 0)",
                    "{{source}} {{queue}}",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            title="Failed and given up",
            description="Piles that somebody has to look at.",
            queries=[
                Query(
                    f'sum by (source, queue, state) ({gauge("taskq_tasks")}{{{OF_QUEUE},state=~"failed|dead|lost"}})',
                    "{{source}} {{queue}} {{state}}",
                )
            ],
        ),
    ],
)

TASKS = Dashboard(
    uid="taskq-tasks",
    title="Tasks",
    description="Tasks by name: how many, how long, how well.",
    rows=[_PACE, _RUNS, _FAILURES],
    variables=("cluster", "namespace", "job", "source", "queue"),
)
