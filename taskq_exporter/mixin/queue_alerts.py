"""Alerts about queues, their objectives, and tasks."""

from __future__ import annotations

from taskq_exporter.mixin.alert import OF_QUEUE, Alert, asked
from taskq_exporter.mixin.recording import FAILED, ID, by, gauge, rate
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["objectives", "queues", "tasks"]

QUEUE = f"{ID}, queue"
ENQUEUED, FINISHED, RETRIED = (rate(f"taskq_tasks_{what}_total") for what in ("enqueued", "finished", "retried"))
OF_TASKS = f'{OF_QUEUE},task!=""'
#: The task of a queue to name, by what it is the most of. Not every queue system says what is put in.
MOST_SENT = f"topk(1, sum by (task) ({ENQUEUED}{{{OF_TASKS}}}) or sum by (task) ({FINISHED}{{{OF_TASKS}}}))"
MOST_FAILED = f"topk(1, sum by (task) ({FINISHED}{{{OF_TASKS},{FAILED}}}) > 0)"
MOST_RETRIED = f"topk(1, sum by (task) ({RETRIED}{{{OF_TASKS}}}) > 0)"
MOST_LOST = (
    f'topk(1, sum by (task) ({FINISHED}{{{OF_TASKS},outcome="lost"}}) > 0'
    f" or sum by (task) ({rate('taskq_tasks_redelivered_total')}{{{OF_TASKS}}}) > 0)"
)
LONGEST_RUN = f"topk(1, max by (task) ({gauge('taskq_task_longest_run_seconds')}{{{OF_TASKS}}}))"
DRAIN = asked(
    f"taskq:queue_drain:seconds{{{OF_QUEUE}}}",
    " At the rate of the last 15 minutes they need {{ . | first | value | humanizeDuration }}.",
)


def queues(t: Thresholds) -> list[Alert]:
    """Late, growing, long, unread, standing still."""
    ready = "taskq:queue_ready:sum"
    oldest = f'max {by("queue")} ({gauge("taskq_oldest_task_age_seconds")}{{state="ready"}})'
    objective = f"max {by('queue')} ({gauge('taskq_queue_objective_wait_seconds')})"
    none_read = f"sum {by('queue')} ({gauge('taskq_queue_consumers')}) == 0"
    counted = f"count {by()} ({rate('taskq_tasks_finished_total', '15m')})"
    return [
        Alert(
            name="TaskqQueueTooOld",
            expression=f"{oldest} > {objective}"
            f" or ({oldest} > {t.oldest_age_seconds:g} unless on ({QUEUE}) {objective})",
            severity="critical",
            summary="Queue {{ $labels.queue }} of {{ $labels.source }} is late",
            description="Its oldest ready task could have started {{ $value | humanizeDuration }} ago.",
            top_task=MOST_SENT,
        ),
        Alert(
            name="TaskqBacklogGrowing",
            # the third keeps silent about a queue that fills and empties
            expression=f"{ready} > {t.backlog_tasks:g} and {ready} > {t.backlog_growth_ratio:g} * ({ready} offset 15m)"
            f" and min_over_time(deriv({ready}[10m])[10m:1m]) > 0",
            summary="Queue {{ $labels.queue }} of {{ $labels.source }} grows faster than it is worked off",
            description="{{ $value | humanize }} tasks are ready." + DRAIN,
            top_task=MOST_SENT,
        ),
        Alert(
            name="TaskqBacklogTooLong",
            expression=f"taskq:queue_drain:seconds > {t.drain_seconds:g} and {ready} > {t.backlog_tasks:g}",
            wait="15m",
            summary="Queue {{ $labels.queue }} of {{ $labels.source }} takes long to work off",
            description="At the rate of the last 15 minutes its ready tasks need {{ $value | humanizeDuration }}.",
            top_task=MOST_SENT,
        ),
        Alert(
            name="TaskqQueueNoConsumers",
            expression=f"{ready} > 0 and on ({QUEUE}) {none_read}",
            wait="10m",
            severity="critical",
            summary="Nobody reads queue {{ $labels.queue }} of {{ $labels.source }}",
            description="{{ $value | humanize }} tasks are ready, and no worker reads the queue.",
            top_task=MOST_SENT,
        ),
        Alert(
            name="TaskqQueueStalled",
            # only where ends are counted, by queue
            expression=f"min_over_time({ready}[15m]) > 0 and on ({ID}) {counted}"
            f" unless on ({QUEUE}) (taskq:queue_finished:rate15m > 0 or taskq:queue_running:sum > 0)"
            f' unless on ({ID}) taskq:queue_finished:rate15m{{queue=""}} > 0',
            severity="critical",
            summary="Queue {{ $labels.queue }} of {{ $labels.source }} stands still",
            description="Tasks are ready, none runs, and none has ended for 15 minutes.",
            top_task=MOST_SENT,
        ),
    ]


def objectives(_: Thresholds) -> list[Alert]:
    """Burn rates of the error budget over two windows each: fast and slow, as in the SRE workbook."""
    budget = f"on ({QUEUE}) (1 - max {by('queue')} ({gauge('taskq_queue_objective_ratio')}))"

    def burning(rate_: float, long: str, short: str) -> str:
        parts = (f"max {by('queue')} (taskq:queue_late:ratio_rate{w}) / {budget} > {rate_:g}" for w in (long, short))
        return " and ".join(parts)

    summary = "Queue {{ $labels.queue }} of {{ $labels.source }} misses its objective"
    often = "Tasks start late {{ $value | humanize }} times as often as its objective allows"
    return [
        Alert(
            name="TaskqObjectiveBurnsFast",
            expression=burning(14.4, "1h", "5m"),
            wait="2m",
            severity="critical",
            summary=summary,
            description=f"{often}: the budget of 30 days lasts two days.",
            top_task=MOST_SENT,
        ),
        Alert(
            name="TaskqObjectiveBurnsSlowly",
            expression=burning(6, "6h", "30m"),
            wait="15m",
            summary=summary,
            description=f"{often}: the budget of 30 days lasts five days.",
            top_task=MOST_SENT,
        ),
    ]


def tasks(t: Thresholds) -> list[Alert]:
    """Failing, retried, stuck, lost, given up."""
    failed, finished = "taskq:queue_failed:rate5m", "taskq:queue_finished:rate5m"
    retried = f"sum {by('queue')} ({rate('taskq_tasks_retried_total')})"
    tasks, redelivered = gauge("taskq_tasks"), rate("taskq_tasks_redelivered_total")
    lost = f'sum {by("queue")} ({rate("taskq_tasks_finished_total")}{{outcome="lost"}})'
    return [
        Alert(
            name="TaskqFailureRatio",
            expression=f"{failed} / {finished} > {t.failure_ratio:g} and {finished} > {t.failure_rate_floor:g}",
            wait="10m",
            dashboard="tasks",
            summary="Tasks of queue {{ $labels.queue }} of {{ $labels.source }} fail",
            description="{{ $value | humanizePercentage }} of those that ended in the last minutes failed.",
            top_task=MOST_FAILED,
        ),
        Alert(
            name="TaskqRetryStorm",
            expression=f"{retried} > {t.retry_rate_floor:g}"
            f" and ({retried} > {t.retry_ratio:g} * {finished} or {retried} unless on ({QUEUE}) {finished})",
            wait="10m",
            dashboard="tasks",
            summary="Tasks of queue {{ $labels.queue }} of {{ $labels.source }} are retried again and again",
            description="{{ $value | humanize }} retries a second.",
            top_task=MOST_RETRIED,
        ),
        Alert(
            name="TaskqTaskStuck",
            expression=f"max {by('queue')} ({gauge('taskq_task_longest_run_seconds')}) > {t.stuck_seconds:g}",
            dashboard="tasks",
            summary="A task of queue {{ $labels.queue }} of {{ $labels.source }} does not end",
            description="It has run for {{ $value | humanizeDuration }}.",
            top_task=LONGEST_RUN,
        ),
        Alert(
            name="TaskqTasksLost",
            expression=f'{lost} > 0 or sum {by("queue")} ({tasks}{{state="lost"}}) > 0'
            f" or sum {by('queue')} ({redelivered}) > 0",
            wait="0s",
            dashboard="tasks",
            summary="Tasks of queue {{ $labels.queue }} of {{ $labels.source }} lost their worker",
            description="Workers went away with tasks in their hands: these were lost, or given out again.",
            top_task=MOST_LOST,
        ),
        Alert(
            name="TaskqDeadLettersGrowing",
            expression=f'sum {by("queue")} (delta({tasks}{{state="dead"}}[15m])) > 0',
            wait="0s",
            dashboard="tasks",
            summary="Tasks of queue {{ $labels.queue }} of {{ $labels.source }} were given up",
            description="{{ $value | humanize }} in the last 15 minutes: they wait for somebody to queue them again.",
            top_task=MOST_FAILED,
        ),
    ]
