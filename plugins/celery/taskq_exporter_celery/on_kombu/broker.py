"""A broker through kombu: sizes of the queues that are known, events, remote control.

It works where a queue that one process binds to the exchange of events is seen by the others: filesystem, MongoDB,
PGMQ, Qpid and Google Pub/Sub; read in the transports of kombu 5.7.0, and verified with filesystem.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

from kombu.pidbox import Mailbox

from taskq_exporter.api import Capability, Finding, Problem, QueueStats, Reason, Snapshot, Source, sending
from taskq_exporter.api import State as S
from taskq_exporter_celery.ages import ready_ages
from taskq_exporter_celery.broker import ARGUMENTS, Answers, Shared, Subscription, shared_of
from taskq_exporter_celery.families import OLDEST_UNACKED, bounds
from taskq_exporter_celery.on_kombu import stream
from taskq_exporter_celery.on_kombu.link import Link, errors, own_name
from taskq_exporter_celery.worker_thread import WorkerThread

#: Most queues to look at in a collect, one by one.
QUEUES = 1_000


class KombuBroker:
    """Implements taskq_exporter_celery.broker.Broker. Each thread and connection is made when it is first needed."""

    tells_consumers = False

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source = source
        self.shared = shared
        self._threads = AsyncExitStack()
        self._links: dict[str, tuple[WorkerThread, Link]] = {}

    async def collect(self) -> Snapshot:
        """Queues now."""
        names = self._names()
        thread, link = self._link("queues")
        sizes = await thread.call(lambda: _sizes(link, names[:QUEUES]))
        told: Literal["none", "backend"] = "backend" if sizes is None else "none"
        problems = []
        if len(names) > QUEUES:
            text = f"only {QUEUES} of {len(names)} queues are read: include or exclude some"
            problems.append(Problem(reason=Reason.COST, part="queues", message=text))
        ages, tells_ages = ready_ages(self.shared.follower, sizes or {}, time.time())
        queues = []
        for name, size in (sizes or {}).items():
            queue = QueueStats(name=name, tasks={S.READY: size})
            if name in ages:
                queue = replace(queue, oldest_age={S.READY: ages[name][0]}, oldest_is_bound=ages[name][1])
            queues.append(queue)
        return Snapshot(
            server=self.source.url().partition(":")[0].partition("+")[0],
            queues=queues,
            queues_complete=not problems,
            capabilities=[
                Capability(family="taskq_tasks", state=S.READY, reason=told),
                Capability(family="taskq_tasks", state=S.RESERVED, reason="backend"),
                Capability(family="taskq_tasks", state=S.SCHEDULED, reason="backend"),
                Capability(family="taskq_tasks_by_priority", state=S.READY, reason="backend"),
                tells_ages,
                Capability(family=OLDEST_UNACKED, reason="backend"),
            ],
            problems=problems,
            samples=bounds(queues),
            commands=len(sizes or ()),
        )

    async def findings(self) -> list[Finding]:
        """What `check` says of the broker's side."""
        await self.collect()
        if names := sorted(self._names()):
            return [Finding(level="ok", text=f"{len(names)} queues: {', '.join(names[:10])}")]
        advice = "name some as queues: {expected: […]}; others are known once an event or a worker names them"
        return [Finding(level="note", text="no queue is known yet: this broker cannot list them", advice=advice)]

    def subscribe(self) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events."""
        return stream.subscribe(self.source)

    async def ask(self, commands: Sequence[str], nodes: Collection[str], timeout: float) -> Answers:
        """Ask workers, one command after the other, as kombu does it."""
        thread, link = self._link("control")
        return await thread.call(lambda: _ask(link, self.source, commands, len(nodes), timeout))

    async def aclose(self) -> None:
        """End every thread and connection."""
        await self._threads.aclose()

    def _names(self) -> list[str]:
        follower, queues = self.shared.follower, self.source.queues
        heard = [name for name in (follower.queues if follower else ()) if queues.wants(name)]
        return list(dict.fromkeys((*queues.expected, *heard)))

    def _link(self, name: str) -> tuple[WorkerThread, Link]:
        if name not in self._links:
            thread, link = self._links[name] = WorkerThread(name), Link(self.source)
            self._threads.push_async_callback(thread.aclose, link.close, link.interrupt)
        return self._links[name]


def _sizes(link: Link, names: Sequence[str]) -> dict[str, int] | None:
    """The size of each queue that is there; None where the transport cannot tell."""
    connection = link.open()
    if connection.transport.driver_type == "gcpubsub":
        return None
    with errors(), sending(names, "size of {}".format):
        # Not by declaring them: kombu's virtual transports create what is declared, passively too.
        channel = connection.default_channel
        return {name: int(channel._size(name)) for name in names}


class _Mailbox(Mailbox):
    """With the same queue for answers each time: what a killed exporter leaves behind is taken over."""

    oid = ""


def _ask(link: Link, source: Source, commands: Sequence[str], nodes: int, timeout: float) -> Answers:
    connection = link.open()
    replies: dict[str, dict[str, Any]] = {}
    with errors():
        connection.declared_entities.clear()  # the queue for answers is deleted each time
        mailbox: Any = _Mailbox(source.options.control_exchange, type="fanout", accept=["json"], serializer="json")
        mailbox.connection, mailbox.oid = connection, own_name(source)
        try:
            for command in commands:
                if link.interrupted:
                    break
                # It ends when all that are known have answered; with none it takes all the time.
                answers = (
                    mailbox.multi_call(command, ARGUMENTS.get(command), timeout=timeout, limit=nodes or None) or []
                )
                replies[command] = {str(node): told for answer in answers for node, told in answer.items()}
        finally:
            mailbox.reply_queue(connection.default_channel).delete()
    return Answers(listeners=None, replies=replies, commands=len(commands))


def grants(source: Source) -> str:
    """Nothing that could be printed for all of these brokers."""
    kind = source.url().partition("://")[0]
    return f"# {kind}: what `celery events` needs; taskq-exporter prints no rights for this broker"


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[KombuBroker]:
    """A client for the source's broker, which connects when it is first used."""
    broker = KombuBroker(source, shared_of(source))
    try:
        yield broker
    finally:
        await broker.aclose()
