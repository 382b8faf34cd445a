"""What a person needs to set a source up: where the broker is, which rights it takes, and what the workers lack."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from taskq_exporter.api import AdapterError, Detected, Finding, Source
from taskq_exporter_celery.broker import Broker
from taskq_exporter_celery.events import UndecodableError
from taskq_exporter_celery.on_redis.checks import database, has_queues
from taskq_exporter_celery.schedulers import BE_HEARD, NODE
from taskq_exporter_celery.view import USE_E

#: Seconds to listen for heartbeats, which come every two.
LISTEN = 3.0
#: Seconds to wait for answers.
ASK = 1.0


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """The broker of CELERY_BROKER_URL, and that of REDIS_URL where Celery declared queues in it."""
    broker, other = env.get("CELERY_BROKER_URL", ""), env.get("REDIS_URL", "")
    found = [Detected(name="celery", url=broker)] if broker else []
    if not other or (broker and database(other) == database(broker)):
        return found
    try:
        if await has_queues(other):
            found.append(Detected(name="celery-redis" if broker else "celery", url=other))
    except AdapterError:
        if not found:  # else the broker that was named must not be lost
            raise
    return found


async def diagnose(source: Source, broker: Broker) -> list[Finding]:
    """What was found on the broker, and what the application could tell but does not."""
    findings = await broker.findings()
    follower = broker.shared.follower
    if follower is None:
        return findings + await _listen(broker) + await _ask(source, broker)
    told = follower.findings()
    if not any(worker.up for worker in follower.workers):
        findings.append(_NO_WORKERS)
    elif not follower.saw_task and not any(worker.silent_work for worker in follower.workers):
        findings.append(_NO_TASKS)
    return findings + told


_NO_WORKERS = Finding(
    level="note",
    text="no worker sends heartbeats",
    advice="start a worker without --without-heartbeat; check event_exchange and global_keyprefix where one runs",
)

_NO_TASKS = Finding(
    level="note",
    text="no task was seen to run yet, so that it is not known whether workers send task events",
    advice=f"look again when one has run; {USE_E}",
)


async def _ask(source: Source, broker: Broker) -> list[Finding]:
    """Who answers remote control, where that is wanted; and whether a beat does, where one is expected to."""
    if not source.options.inspect:
        return []
    try:
        answers = await broker.ask(["ping"], (), ASK)
    except AdapterError as error:
        return [Finding(level="note", text=f"workers cannot be asked: {error}", advice="or set inspect: false")]
    answered = set(answers.replies.get("ping", ()))
    beats = {node for node in answered if node.startswith(NODE)}
    findings = []
    if workers := len(answered - beats):
        findings.append(Finding(level="ok", text=f"{workers} workers answer remote control"))
    if (silent := (answers.listeners or 0) - len(answered) - answers.unreadable) > 0:
        text = f"{silent} workers listen and do not answer"
        findings.append(
            Finding(level="note", text=text, advice="a worker with the solo pool answers when its task ends")
        )
    if beats:
        findings.append(Finding(level="ok", text="beat answers ping"))
    elif source.options.schedulers:
        findings.append(Finding(level="note", text="no beat answers ping", advice=BE_HEARD))
    return findings


async def _listen(broker: Broker) -> list[Finding]:
    """What can be told by listening for a moment."""
    kinds: set[str] = set()
    async with broker.subscribe() as subscription:
        try:
            async with asyncio.timeout(LISTEN):
                while True:
                    for message in await subscription.read():
                        try:
                            kinds |= {str(event.get("type")) for event in subscription.decode(message)}
                        except (UndecodableError, AttributeError):
                            kinds.add("undecodable")
        except TimeoutError:
            pass
    if not any(kind.startswith("worker-") for kind in kinds):
        return [_NO_WORKERS]
    if any(kind.startswith("task-") for kind in kinds):
        return [Finding(level="ok", text="workers send heartbeats and task events")]
    return [Finding(level="note", text="workers send heartbeats, but no task event came just now", advice=USE_E)]
