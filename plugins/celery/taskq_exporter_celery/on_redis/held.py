"""What workers hold: whose it is, what waits for its ETA, and what is stuck."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskq_exporter.api import AdapterError, Finding, Sample
from taskq_exporter.api import State as S
from taskq_exporter_celery.families import ETA_BEYOND_VISIBILITY, OLDEST_UNACKED, TASKS_PAST_ETA

if TYPE_CHECKING:
    from taskq_exporter_celery.on_redis.broker import RedisBroker
    from taskq_exporter_celery.workers import Workers

STATES = (S.RESERVED, S.SCHEDULED, S.RETRY)
#: Seconds after its ETA in which a task may start: workers' clocks differ, and held messages are read every 3 seconds.
PATIENCE = 5.0


@dataclass(slots=True)
class Held:
    """What workers hold now, by queue; "" where the queue is not known."""

    states: defaultdict[str, Counter[S]] = field(default_factory=lambda: defaultdict(Counter))
    #: Whether there is more than was looked at.
    capped: bool = False
    past_eta: Counter[str] = field(default_factory=Counter)
    beyond_visibility: Counter[str] = field(default_factory=Counter)


def held_now(broker: RedisBroker, unacked: Any, now: float) -> Held:
    """What workers hold.

    Args:
        broker: Whose background reads are used.
        unacked: How many messages there are now, or why that is not known.
        now: By the server's clock.

    Raises:
        AdapterError: Why it is not known.
    """
    held = Held()
    follower = broker.shared.follower
    if unacked == 0:
        if follower is not None:
            follower.workers.nothing_held()
        return held
    if isinstance(unacked, AdapterError):
        raise unacked
    if error := broker.unacked_reads.problem:
        raise error
    visibility_timeout = broker.source.options.visibility_timeout
    known = broker.unacked.held
    for message, delivered in known:
        # Tasks that acknowledge late stay unacknowledged while they run.
        if follower is not None and follower.tasks.has_started(message.id):
            continue
        queue = broker.bindings.queue(message.exchange, message.routing_key)
        state = S.RESERVED
        if message.eta is not None:
            if message.eta > now:
                state = S.RETRY if message.retries else S.SCHEDULED
            held.past_eta[queue] += message.eta < now - PATIENCE
            held.beyond_visibility[queue] += message.eta > delivered + visibility_timeout
        held.states[queue][state] += 1
    if follower is not None:
        _without_silent_runs(held, follower.workers)
    rest = broker.unacked.total - len(known)
    if rest > 0:  # of a queue that is not known
        held.states[""][S.RESERVED] += rest
        held.capped = True
    return held


def _without_silent_runs(held: Held, workers: Workers) -> None:
    """Leave out what the solo pool runs, which counts as running: its message too is unacknowledged until then."""
    for worker in workers:
        if worker.works_in_silence:
            queues = worker.queues or held.states.keys()
            reserved = [counts for queue, counts in held.states.items() if queue in queues and counts[S.RESERVED]]
            if len(reserved) == 1:  # else it may be of any of them
                reserved[0][S.RESERVED] -= 1


def samples(held: Held | None, queues: list[str], oldest: Any, now: float) -> list[Sample]:
    """The adapter's own families on what is held.

    Args:
        held: None where it is not known.
        queues: Those that are read: they stand at 0.
        oldest: Tag and time of the oldest delivery.
        now: By the server's clock.
    """
    told = []
    if isinstance(oldest, list):
        told.append(Sample(OLDEST_UNACKED, (), _age(oldest, now)))
    if held is not None:
        for family, counts in ((TASKS_PAST_ETA, held.past_eta), (ETA_BEYOND_VISIBILITY, held.beyond_visibility)):
            told += [Sample(family, (queue,), counts[queue]) for queue in dict.fromkeys((*queues, *+counts))]
    return told


def findings(held: Held | None, oldest: Any, now: float, visibility_timeout: float) -> list[Finding]:
    """What is stuck, for people."""
    found = []
    limit = f"{visibility_timeout:g} s"
    if isinstance(oldest, list) and _age(oldest, now) > visibility_timeout:
        text = f"a message is unacknowledged for longer than the visibility timeout of {limit}: it is delivered twice"
        advice = "raise visibility_timeout in broker_transport_options, and here, above the longest ETA and task"
        found.append(Finding(level="problem", text=text, advice=advice))
    if held is None:
        return found
    if n := held.beyond_visibility.total():
        where = _most(held.beyond_visibility)
        text = f"{n} tasks{where} wait for an ETA beyond the visibility timeout of {limit}: they are delivered twice"
        advice = "raise visibility_timeout in broker_transport_options, and here, above the longest countdown"
        found.append(Finding(level="problem", text=text, advice=advice))
    if n := held.past_eta.total():
        text = f"{n} tasks{_most(held.past_eta)} are past their ETA, held by workers, and not started"
        advice = "add workers or slots, or lower worker_prefetch_multiplier, so that busy workers hold less"
        found.append(Finding(level="note", text=text, advice=advice))
    return found


def _age(oldest: list[bytes], now: float) -> float:
    return max(now - float(oldest[1]), 0.0) if oldest else 0.0


def _most(counts: Counter[str]) -> str:
    queue, _ = counts.most_common(1)[0]
    return f", most of the queue {queue}," if queue else ""
