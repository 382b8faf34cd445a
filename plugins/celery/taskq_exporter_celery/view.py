"""What the follower sees now, as records for a page. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Literal

from taskq_exporter.api import Capability, Finding, LongestRun, QueueStats, Sample, State, WorkerState
from taskq_exporter_celery.families import WITHOUT_TASK_EVENTS, WORKER_PROCESSED
from taskq_exporter_celery.learned import the_only
from taskq_exporter_celery.workers import Workers

USE_E = "start workers with -E, or set worker_send_task_events = True, to count what they start and finish"
SEND_SENT = "set task_send_sent_event = True on producers and workers for queue names, enqueued counts and wait times"


def queues(
    workers: Workers, readers: Mapping[str, tuple[int, int]], now: float, *, running: bool, consumers: bool
) -> tuple[list[QueueStats], list[LongestRun]]:
    """What runs on workers that live, by queue, with the longest run of each task name; and who reads which queue.

    Args:
        workers: All of them.
        readers: Consumers and slots by queue.
        now: Unix seconds.
        running: Whether it is known what runs.
        consumers: Whether they are told here, and not by the broker.
    """
    counts: Counter[str] = Counter()
    longest: dict[tuple[str, str], float] = defaultdict(float)
    oldest: dict[str, float] = defaultdict(float)
    ageless = set()
    for worker in workers:
        if worker.up is False:
            continue
        if unheard := worker.unheard:
            queue = the_only(worker.queues)
            counts[queue] += unheard
            ageless.add(queue)
        for run in worker.runs:
            queue, seconds = run.queue or run.task.queue, max(now - run.since, 0.0)
            counts[queue] += 1
            longest[queue, run.task.name] = max(longest[queue, run.task.name], seconds)
            oldest[queue] = max(oldest[queue], seconds)
    if not running:
        counts.clear()
    stats = []
    for queue in dict.fromkeys((*counts, *readers)):
        read_by, slots = readers.get(queue, (None, None))
        stats.append(
            QueueStats(
                name=queue,
                tasks={State.RUNNING: counts[queue]} if queue in counts else {},
                oldest_age={State.RUNNING: oldest[queue]} if queue in counts and queue not in ageless else {},
                consumers=read_by if consumers else None,
                slots=slots,
            )
        )
    return stats, [LongestRun(queue=q, task=t, seconds=s) for (q, t), s in longest.items()]


def worker_states(workers: Workers, strangers: int | None) -> dict[WorkerState, int]:
    """Workers by state; `strangers` listen and do not answer, None where nobody can be asked."""
    counts = Counter(worker.state for worker in workers if worker.state is not None)
    states = [WorkerState.IDLE, WorkerState.BUSY, WorkerState.OFFLINE]
    if any(worker.up and worker.state is None for worker in workers):  # it may be either
        states = [WorkerState.OFFLINE]
    if strangers is None:
        return {state: counts[state] for state in states} if counts else {}
    counts[WorkerState.SILENT] += strangers
    return {state: counts[state] for state in (*states, WorkerState.SILENT)}


def samples(workers: Workers) -> list[Sample]:
    """What only Celery's workers tell."""
    return [
        *(Sample(WORKER_PROCESSED, (w.name,), w.processed) for w in workers if w.processed is not None),
        Sample(WITHOUT_TASK_EVENTS, (), sum(w.silent_work for w in workers)),
    ]


def findings(workers: Workers, *, without_task_sent: bool) -> list[Finding]:
    """What the application could tell and does not."""
    found = []
    if silent := sorted(w.name for w in workers if w.silent_work):
        text = f"{len(silent)} workers run tasks and send no task events, e.g. {silent[0]}"
        found.append(Finding(level="problem", text=text, advice=USE_E))
    if without_task_sent:
        found.append(Finding(level="note", text="producers send no task-sent events", advice=SEND_SENT))
    return found


def capabilities(*, running: bool | None, tasks: bool, sending: bool) -> list[Capability]:
    """What events tell: of running tasks (None: not yet), of tasks at all, of those that are sent."""

    def told(known: bool) -> Literal["none", "option"]:
        return "none" if known else "option"

    of_running = () if running is None else ("taskq_tasks", "taskq_oldest_task_age_seconds")
    return [
        Capability(family="taskq_worker_up"),
        *(Capability(family=f, state=State.RUNNING, reason=told(bool(running)), advice=USE_E) for f in of_running),
        Capability(family="taskq_tasks_finished_total", reason=told(tasks), advice=USE_E),
        Capability(family="taskq_tasks_enqueued_total", reason=told(sending), advice=SEND_SENT),
        Capability(family="taskq_task_wait_duration_seconds", reason=told(sending), advice=SEND_SENT),
    ]
