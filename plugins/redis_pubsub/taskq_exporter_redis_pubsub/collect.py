"""One snapshot in two round trips: the workers, then their queues and who listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from taskq_exporter.api import (
    AdapterError,
    Capability,
    Problem,
    QueueStats,
    Reason,
    Snapshot,
    State,
)
from taskq_exporter_redis_pubsub.client import QUEUES, Client
from taskq_exporter_redis_pubsub.names import FAMILIES, QUEUE, REGISTERED, TASKS, WORKER
from taskq_exporter_redis_pubsub.workers import FIELDS, Worker, worker_of

__all__ = ["collect"]

_SLOTS = "taskq_queue_slots"
_TOLD = (
    ("taskq_tasks", State.READY),
    ("taskq_queue_consumers", ""),
    (_SLOTS, ""),
    ("taskq_workers", ""),
    ("taskq_worker_up", ""),
    ("taskq_worker_slots", ""),
    ("taskq_worker_tasks", State.RUNNING),
    ("taskq_worker_start_timestamp_seconds", ""),
    ("taskq_tasks_enqueued_total", ""),
    ("taskq_tasks_received_total", ""),
    *((family.name, "") for family in FAMILIES),
)
#: What tasks come to, nobody publishes and nothing keeps; a list holds no times that are known.
_NOT_TOLD = (
    *(("taskq_tasks", state) for state in State if state is not State.READY),
    ("taskq_oldest_task_age_seconds", State.READY),
    ("taskq_tasks_started_total", ""),
    ("taskq_tasks_finished_total", ""),
    ("taskq_tasks_retried_total", ""),
    ("taskq_task_exceptions_total", ""),
    ("taskq_task_run_duration_seconds", ""),
    ("taskq_task_wait_duration_seconds", ""),
    ("taskq_worker_last_heartbeat_timestamp_seconds", ""),
)
#: What is missing where a part may not be read.
_PARTS = {
    "lists": ("taskq_tasks",),
    "subscribers": ("taskq_queue_consumers", _SLOTS, "taskq_worker_up", "taskq_workers"),
    "workers": (
        *(_SLOTS, "taskq_workers", "taskq_worker_up", "taskq_worker_slots", "taskq_worker_tasks"),
        "taskq_worker_start_timestamp_seconds",
    ),
}


async def collect(client: Client) -> Snapshot:
    """What is true now.

    Raises:
        AdapterError: connect, auth, timeout, busy.
    """
    names, found = await client.workers()
    problems = {(problem.reason, problem.part): problem for problem in found}
    info = client.server_info
    replies = await client.redis.pipeline(
        [
            *(("HMGET", f"{REGISTERED}{name}", *FIELDS) for name in names),
            _subscribers(WORKER, names),
            *info.commands,
        ]
    )
    server = info.told(replies[len(names) + 1 :], client.redis.roundtrip_seconds)
    problems |= {(problem.reason, problem.part): problem for problem in server.problems}
    listening = _counts(replies[len(names)], names, problems)
    searched = not any(part == "workers" for _, part in problems)
    workers = list(_workers(names, replies, listening, client.active if searched else None, problems))
    client.saw(*(queue for worker in workers for queue in worker.queues))

    queues = client.queues()
    if len(queues) > QUEUES:
        text = f"more than {QUEUES} queues: name those to watch in `queues: {{include: […]}}`"
        _note(problems, AdapterError(Reason.COST, text), "queues")
        del queues[QUEUES:]
    *lengths, subscribers = await client.redis.pipeline(
        [*(("LLEN", f"{QUEUE}{queue}") for queue in queues), _subscribers(TASKS, queues)]
    )
    consumers = _counts(subscribers, queues, problems)
    refused = {part for _, part in problems} & {"workers", "subscribers"}
    slots = None if refused else _slots(workers)
    stats = []
    for queue, length in zip(queues, lengths, strict=True):
        if isinstance(length, AdapterError):
            _note(problems, length, "lists")
        stats.append(
            QueueStats(
                name=queue,
                tasks={} if isinstance(length, AdapterError) else {State.READY: length},
                consumers=None if consumers is None else consumers[queue],
                slots=None if slots is None else slots[queue],
            )
        )
    return Snapshot(
        server=client.redis.server,
        server_version=client.redis.server_version,
        queues=stats,
        queues_complete=not {part for _, part in problems} & {"queues", "workers"},
        workers=[worker.stats for worker in workers],
        broker=server.stats,
        capabilities=[
            *_capabilities(problems.values(), tells_slots=bool(refused) or slots is not None),
            *server.capabilities,
        ],
        problems=list(problems.values()),
        commands=client.commands(),
    )


def _workers(
    names: Sequence[str],
    replies: Sequence[Any],
    listening: Mapping[str, int] | None,
    active: Mapping[str, int] | None,
    problems: dict[tuple[Reason, str], Problem],
) -> Iterator[Worker]:
    for name, fields in zip(names, replies, strict=False):
        if isinstance(fields, AdapterError):
            if fields.reason is not Reason.PROTOCOL:  # a key of another type is none of a worker
                _note(problems, fields, "workers")
        elif worker := worker_of(name, fields, None if listening is None else listening[name] > 0, active):
            yield worker


def _subscribers(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    return ("PUBSUB", "NUMSUB", *(prefix + name for name in names))


def _counts(reply: Any, names: Sequence[str], problems: dict[tuple[Reason, str], Problem]) -> dict[str, int] | None:
    """How many listen to the channel of each name; subscriptions by pattern, like ours, are not among them."""
    if isinstance(reply, AdapterError):
        _note(problems, reply, "subscribers")
        return None
    return dict(zip(names, reply[1::2], strict=True))


def _slots(workers: Iterable[Worker]) -> Counter[str] | None:
    """The slots of the workers of each queue that listen; None where one does not say how many it has."""
    slots: Counter[str] = Counter()
    for worker in workers:
        if worker.stats.up:
            if worker.stats.slots is None:
                return None
            slots.update(dict.fromkeys(worker.queues, worker.stats.slots))
    return slots


def _note(problems: dict[tuple[Reason, str], Problem], error: AdapterError, part: str) -> None:
    problems.setdefault((error.reason, part), Problem(reason=error.reason, part=part, message=str(error)))


def _capabilities(problems: Iterable[Problem], *, tells_slots: bool) -> Iterator[Capability]:
    refused = {
        family for problem in problems if problem.reason is Reason.PERMISSION for family in _PARTS.get(problem.part, ())
    }
    for family, state in _TOLD:
        why: Literal["none", "permission"] = "permission" if family in refused else "none"
        if family == _SLOTS and why == "none" and not tells_slots:
            yield Capability(family=_SLOTS, reason="backend", advice="write pool_size into the hash of every worker")
        else:
            yield Capability(family=family, state=state, reason=why)
    for family, state in _NOT_TOLD:
        yield Capability(family=family, state=state, reason="backend")
