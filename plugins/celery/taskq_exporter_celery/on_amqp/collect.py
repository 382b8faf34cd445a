"""What is true now in one virtual host: ready tasks and consumers of each queue."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from taskq_exporter.api import AdapterError, Capability, Problem, QueueStats, Reason, Sample, Snapshot
from taskq_exporter.api import State as S
from taskq_exporter_celery.ages import ready_ages
from taskq_exporter_celery.families import OLDEST_UNACKED, UNACKED, bounds
from taskq_exporter_celery.on_amqp.held import held, nothing_held
from taskq_exporter_celery.on_amqp.management import Listed
from taskq_exporter_celery.on_amqp.queues import DELAYED, QUEUES, of_tasks
from taskq_exporter_celery.on_amqp.sizes import No, Size

if TYPE_CHECKING:
    from taskq_exporter_celery.on_amqp.broker import AmqpBroker

Why = Literal["none", "permission", "option", "backend"]

_UNLISTED = Listed(None, None, None, None)
_REFUSED = (
    "RabbitMQ 4.2.6 and newer show the size of a queue only to users with a right on it: set management_url, or give "
    "one with `rabbitmqctl set_permissions`"
)
_BYTES = "taskq_queue_bytes"
_OF_NODES = ("taskq_broker_memory_bytes", "taskq_broker_memory_limit_bytes", "taskq_broker_connections")
_ADVICE = {
    "option": "set management_url, the address of RabbitMQ's management API",
    "permission": "give the user the tag monitoring, as `taskq-exporter grants` says",
}


async def collect(broker: AmqpBroker) -> Snapshot:
    """Look at all queues in one round trip, and at what the management API last said.

    Raises:
        AdapterError: Where the broker cannot be read at all.
    """
    await broker.read_in_background()
    error = await broker.list_problem()
    # Names stay right while the API is away, numbers do not.
    listed = {} if error else broker.listed or {}
    wants = broker.source.queues.wants
    names = None
    if broker.listed is not None:
        names = [name for name in broker.listed if name in DELAYED or (of_tasks(name) and wants(name))]
    now, interval = time.time(), broker.source.options.discovery_interval
    due = broker.queues.due(_named(broker), names, now, interval)
    sizes, server = await broker.sizes_thread().call(lambda: (_read(broker, due), broker.link.server))
    problems = [Problem(reason=error.reason, part="management", message=str(error))] if error else []
    if len(due) == QUEUES:
        text = f"only {QUEUES} queues are read: include or exclude some"
        problems.append(Problem(reason=Reason.COST, part="queues", message=text))
    in_hand = _in_hand(broker, listed, now)
    tasks = {} if in_hand is None else {name: dict(counts) for name, counts in in_hand.items() if wants(name)}
    stats, counted, delayed = {}, {}, []
    for name, size in sizes.items():
        if isinstance(size, Size):
            broker.queues.found(name)
        elif size is No.REFUSED:
            broker.queues.refuse(name, now)
        else:
            broker.queues.missing(name, now)
    for name in broker.queues.refused:
        if (ready := listed.get(name, _UNLISTED).ready) is not None:
            sizes[name] = Size(ready, listed[name].consumers)
        elif not any(problem.message == _REFUSED for problem in problems):
            problems.append(Problem(reason=Reason.PERMISSION, part="queues", message=_REFUSED))
    for name, size in sizes.items():
        if isinstance(size, Size) and name in DELAYED:
            delayed.append(size.ready)
        elif isinstance(size, Size):
            tasks[name] = {S.READY: size.ready, **tasks.get(name, {})}
            in_bytes = listed.get(name, _UNLISTED).bytes
            counted[name] = size.ready
            stats[name] = QueueStats(name=name, consumers=size.consumers, bytes=in_bytes)
    if delayed:  # of queues that only the messages tell
        unnamed = tasks.setdefault("", {})
        unnamed[S.SCHEDULED] = unnamed.get(S.SCHEDULED, 0) + sum(delayed)
    ages, tells_ages = ready_ages(broker.shared.follower, counted, now)
    for name, (age, is_bound) in ages.items():
        stats[name] = replace(stats[name], oldest_age={S.READY: age}, oldest_is_bound=is_bound)
    before, broker.commands_told = broker.commands_told, broker.commands
    return Snapshot(
        server=server[0],
        server_version=server[1],
        queues=[replace(stats.get(name) or QueueStats(name=name), tasks=told) for name, told in tasks.items()],
        queues_complete=not problems,
        broker=broker.stats if listed else None,
        capabilities=[tells_ages, *_capabilities(broker, error, held=in_hand is not None, delayed=bool(delayed))],
        problems=problems,
        samples=[
            *bounds(stats.values()),
            *(
                Sample(UNACKED, (name,), queue.unacked)
                for name, queue in listed.items()
                if name in stats and queue.unacked is not None
            ),
        ],
        commands=broker.commands_told - before,
    )


def _read(broker: AmqpBroker, due: list[str]) -> dict[str, Size | No]:
    """The sizes of queues, and of all delays where a look at one of them finds that they are used."""
    sizes = broker.sizes.read(due)
    if isinstance(sizes.get(DELAYED[-1]), Size) and not any(name in sizes for name in DELAYED[:-1]):
        sizes |= broker.sizes.read(DELAYED)
    return sizes


def _in_hand(broker: AmqpBroker, listed: Mapping[str, Listed], now: float) -> Mapping[str, Counter[S]] | None:
    """What workers hold and have not begun, by queue; None where it is not known."""
    follower = broker.shared.follower
    unacked = [queue.unacked for queue in listed.values()]
    if not any(unacked) and unacked and None not in unacked:
        nothing_held(follower, now)
        return held(follower, now) or {}
    return held(follower, now)


def _named(broker: AmqpBroker) -> dict[str, float]:
    """Queues that configuration and events name, and when last."""
    follower, queues = broker.shared.follower, broker.source.queues
    heard = follower.queues if follower else {}
    named = dict.fromkeys(queues.expected, 0.0)
    return named | {name: at for name, at in heard.items() if of_tasks(name) and queues.wants(name)}


def _capabilities(broker: AmqpBroker, error: AdapterError | None, *, held: bool, delayed: bool) -> list[Capability]:
    refused = error is not None and error.reason is Reason.PERMISSION
    api: Why = "option" if broker.management is None else "permission" if refused else "none"
    nodes: Why = "permission" if broker.stats_refused and api == "none" else api
    events: Why = "none" if held else "backend"
    return [
        Capability(family="taskq_tasks", state=S.READY),
        Capability(family="taskq_queue_consumers"),
        Capability(family="taskq_tasks", state=S.RESERVED, reason=events),
        Capability(family="taskq_tasks", state=S.SCHEDULED, reason="none" if delayed else events),
        Capability(family="taskq_tasks", state=S.RETRY, reason=events),
        Capability(family="taskq_tasks_by_priority", state=S.READY, reason="backend"),
        Capability(family=OLDEST_UNACKED, reason="backend"),
        *(Capability(family=family, reason=api, advice=_ADVICE.get(api, "")) for family in (UNACKED, _BYTES)),
        *(Capability(family=family, reason=nodes, advice=_ADVICE.get(nodes, "")) for family in _OF_NODES),
    ]
