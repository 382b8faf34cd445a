"""What is true now in one database: ready, reserved and delayed tasks of each queue."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from taskq_exporter.api import AdapterError, Capability, Family, Problem, QueueStats, Reason, Sample, Snapshot, Source
from taskq_exporter.api import State as S
from taskq_exporter_celery.broker import Broker

#: Most queues of one database to read in a collect: far above the core's cap, which adds up what is over.
QUEUES = 10_000

OLDEST_UNACKED = "taskq_celery_unacked_oldest_age_seconds"
FAMILIES = (
    Family(
        name=OLDEST_UNACKED,
        kind="gauge",
        help="Age of the oldest delivery that is not acknowledged; 0 if there is none. "
        "Beyond the visibility timeout the message is delivered again.",
    ),
)

CAPABILITIES = (
    *(Capability(family="taskq_tasks", state=state) for state in (S.READY, S.RESERVED, S.SCHEDULED, S.RETRY)),
    Capability(family="taskq_tasks_by_priority", state=S.READY),
    Capability(family=OLDEST_UNACKED),
    Capability(family="taskq_oldest_task_age_seconds", state=S.READY, reason="backend"),
    Capability(family="taskq_queue_consumers", reason="backend"),
)


async def collect(source: Source, broker: Broker) -> Snapshot:
    """Read all queues in one round trip.

    What workers hold is attributed to queues in the background; only its number is read here.

    Raises:
        AdapterError: Where the server cannot be read at all.
    """
    await broker.read_in_background()
    patience = source.timeout / 2
    await asyncio.gather(broker.queue_search.names(patience), broker.unacked_reads.names(patience))
    problems = []
    if error := broker.queue_search.problem:
        problems.append(Problem(reason=error.reason, part="queues", message=str(error)))
    queues = _queues(source, broker)
    if len(queues) > QUEUES:
        text = f"only {QUEUES} of {len(queues)} queues are read: include or exclude some"
        problems.append(Problem(reason=Reason.COST, part="queues", message=text))
        queues = queues[:QUEUES]
    complete_list = not problems
    keys = [key for queue in queues for key in broker.layout.ready(queue)]
    replies = await broker.redis.pipeline(
        [
            ("TIME",),
            ("HLEN", broker.layout.unacked),
            ("ZRANGE", broker.layout.unacked_index, 0, 0, "WITHSCORES"),
            *(("LLEN", key) for key in keys),
        ]
    )
    (clock, unacked, oldest), lengths = replies[:3], iter(replies[3:])
    now = int(clock[0]) + int(clock[1]) / 1e6 if isinstance(clock, list) else None
    held, capped, error = _held(broker, unacked, now)
    if error is not None:
        problems.append(Problem(reason=error.reason, part="reserved", message=str(error)))
    stats = []
    read = set(queues)
    for queue in [*queues, *(q for q in held or () if q not in read)]:
        ready: dict[str, int] = {}
        if queue in read:
            for step, length in zip(broker.layout.steps, lengths, strict=False):
                if isinstance(length, AdapterError):
                    problems.append(Problem(reason=length.reason, part=f"queue {queue}", message=str(length)))
                else:
                    ready[str(step)] = length
        complete = len(ready) == len(broker.layout.steps)
        tasks: dict[S, int] = {S.READY: sum(ready.values())} if complete else {}
        if held is not None:
            tasks |= {state: held[queue][state] for state in (S.RESERVED, S.SCHEDULED, S.RETRY)}
        stats.append(
            QueueStats(
                name=queue,
                tasks=tasks,
                by_priority={(S.READY, step): n for step, n in ready.items()},
                capped={S.RESERVED: True} if capped else {},
            )
        )
    samples = []
    if isinstance(oldest, list) and now is not None:
        samples.append(Sample(OLDEST_UNACKED, (), max(now - float(oldest[1]), 0.0) if oldest else 0.0))
    told, broker.commands_told = broker.commands_told, broker.redis.commands_sent
    return Snapshot(
        server=broker.redis.server,
        server_version=broker.redis.server_version,
        queues=stats,
        queues_complete=complete_list,
        capabilities=CAPABILITIES,
        problems=problems,
        samples=samples,
        commands=broker.commands_told - told,
    )


def _queues(source: Source, broker: Broker) -> list[str]:
    """Names to read, those that are expected first."""
    follower = broker.shared.follower
    seen = list(follower.queues) if follower else []
    wanted = source.queues.wants
    return [
        q for q in dict.fromkeys((*source.queues.expected, *sorted(broker.shared.bindings.queues), *seen)) if wanted(q)
    ]


def _held(
    broker: Broker, unacked: Any, now: float | None
) -> tuple[defaultdict[str, Counter[S]] | None, bool, AdapterError | None]:
    """What workers hold by queue and state, whether that stopped at a limit, and why it is not known."""
    held: defaultdict[str, Counter[S]] = defaultdict(Counter)
    if unacked == 0:
        return held, False, None
    if isinstance(unacked, AdapterError):
        return None, False, unacked
    if error := broker.unacked_reads.problem:
        return None, False, error
    follower = broker.shared.follower
    known = broker.unacked.held
    for message in known:
        # Tasks that acknowledge late stay unacknowledged while they run.
        if follower is not None and follower.tasks.has_started(message.id):
            continue
        state = S.RESERVED
        if message.eta is not None and now is not None and message.eta > now:
            state = S.RETRY if message.retries else S.SCHEDULED
        held[broker.shared.bindings.queue(message.exchange, message.routing_key)][state] += 1
    rest = broker.unacked.total - len(known)
    if rest > 0:  # of a queue that is not known
        held[""][S.RESERVED] += rest
    return held, rest > 0, None
