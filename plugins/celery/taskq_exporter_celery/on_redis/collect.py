"""What is true now in one database: ready, reserved and delayed tasks of each queue."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from taskq_exporter.api import AdapterError, Capability, Problem, QueueStats, Reason, Snapshot
from taskq_exporter.api import State as S
from taskq_exporter_celery.families import ETA_BEYOND_VISIBILITY, OLDEST_UNACKED, TASKS_PAST_ETA, bounds
from taskq_exporter_celery.on_redis.ages import Ages
from taskq_exporter_celery.on_redis.held import STATES, held_now
from taskq_exporter_celery.on_redis.held import findings as findings_of_held
from taskq_exporter_celery.on_redis.held import samples as samples_of_held

if TYPE_CHECKING:
    from taskq_exporter_celery.on_redis.broker import RedisBroker

#: Most queues of one database to read in a collect: far above the core's cap, which adds up what is over.
QUEUES = 10_000

CAPABILITIES = (
    *(Capability(family="taskq_tasks", state=state) for state in (S.READY, *STATES)),
    Capability(family="taskq_tasks_by_priority", state=S.READY),
    *(Capability(family=family) for family in (OLDEST_UNACKED, TASKS_PAST_ETA, ETA_BEYOND_VISIBILITY)),
    Capability(family="taskq_queue_consumers", reason="backend"),
)


_NONE: Counter[S] = Counter()


async def collect(broker: RedisBroker) -> Snapshot:
    """Read all queues in one round trip.

    What workers hold is attributed to queues in the background; only its number is read here.

    Raises:
        AdapterError: Where the server cannot be read at all.
    """
    await broker.read_in_background()
    patience = broker.source.timeout / 2
    follower = broker.shared.follower
    redbeat, *_ = await asyncio.gather(
        broker.redbeat.told(patience, follower.schedulers if follower else None),
        broker.queue_search.names(patience),
        broker.unacked_reads.names(patience),
        broker.tail_reads.names(patience if broker.source.options.peek else 0),
    )
    problems = []
    if error := broker.queue_search.problem:
        problems.append(Problem(reason=error.reason, part="queues", message=str(error)))
    queues = broker.queues()
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
            *broker.server_info.commands,
            *(("LLEN", key) for key in keys),
        ]
    )
    first = 3 + len(broker.server_info.commands)
    (clock, unacked, oldest), lengths = replies[:3], iter(replies[first:])
    server = broker.server_info.told(replies[3:first], broker.redis.roundtrip_seconds)
    now = int(clock[0]) + int(clock[1]) / 1e6 if isinstance(clock, list) else time.time()
    held = None
    try:
        held = held_now(broker, unacked, now)
    except AdapterError as error:
        problems.append(Problem(reason=error.reason, part="reserved", message=str(error)))
    ages = Ages(broker)
    problems += ages.problems
    stats, samples = [], samples_of_held(held, queues, oldest, now)
    read = set(queues)
    for queue in [*queues, *(q for q in held.states if q not in read)] if held else queues:
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
            counts = held.states.get(queue, _NONE)
            tasks |= {state: counts[state] for state in STATES}
        age = ages.oldest(queue, list(ready.values()), now) if complete else None
        stats.append(
            QueueStats(
                name=queue,
                tasks=tasks,
                by_priority={(S.READY, step): n for step, n in ready.items()},
                capped={S.RESERVED: True} if held and held.capped else {},
                oldest_age={S.READY: age[0]} if age else {},
                oldest_is_bound=age[1] if age else None,
            )
        )
    told, broker.commands_told = broker.commands_told, broker.redis.commands_sent
    return Snapshot(
        server=broker.redis.server,
        server_version=broker.redis.server_version,
        queues=stats,
        queues_complete=complete_list,
        schedulers=redbeat.schedulers,
        broker=server.stats,
        capabilities=(*CAPABILITIES, *server.capabilities, *ages.capabilities, *redbeat.capabilities),
        problems=[*problems, *redbeat.problems, *server.problems],
        samples=[*samples, *bounds(stats), *redbeat.samples],
        findings=[
            *findings_of_held(held, oldest, now, broker.source.options.visibility_timeout),
            *ages.findings,
            *redbeat.findings,
        ],
        commands=broker.commands_told - told,
    )
