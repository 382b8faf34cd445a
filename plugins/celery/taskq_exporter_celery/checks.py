"""What a person needs to set a source up: where the broker is, which rights it takes, and what the workers lack."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from redis.asyncio.connection import parse_url
from taskq_exporter_redis import acl_line, connect, escape_glob, scan

from taskq_exporter.api import AdapterError, Detected, Finding, Source
from taskq_exporter_celery.broker import Broker, redis_url
from taskq_exporter_celery.events import UndecodableError, decode
from taskq_exporter_celery.layout import Layout
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.pubsub import subscribe

#: Seconds to listen for heartbeats, which come every two.
LISTEN = 3.0


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """The broker of CELERY_BROKER_URL, and that of REDIS_URL where Celery declared queues in it."""
    broker, other = env.get("CELERY_BROKER_URL", ""), env.get("REDIS_URL", "")
    found = [Detected(name="celery", url=broker)] if broker else []
    if not other or (broker and _database(other) == _database(broker)):
        return found
    try:
        if await _has_queues(other):
            found.append(Detected(name="celery-redis" if broker else "celery", url=other))
    except AdapterError:
        if not found:  # else the broker that was named must not be lost
            raise
    return found


def _database(url: str) -> object:
    """Server and database of a URL, whoever logs in."""
    try:
        parsed = parse_url(redis_url(url))
    except (AdapterError, ValueError):
        return url
    defaults = {"host": "localhost", "port": 6379, "db": 0, "path": None}
    return [parsed.get(key, default) for key, default in defaults.items()]


async def _has_queues(url: str) -> bool:
    source = Source(name="detect", adapter="celery", url=lambda: redis_url(url), options=CeleryOptions())
    async with connect(source) as client:
        async for _ in scan(client, Layout(source.options, 0).bindings, "set"):
            return True
    return False


def grants(source: Source) -> str:
    """The ACL line for Redis 7 or Valkey: read-only commands, each on the keys that it reads.

    Any list may be a queue, so LLEN is allowed on all; nothing that shows a message is, but in `unacked`.
    """
    options: CeleryOptions = source.options
    database = options.database
    if database is None:
        try:
            database = int(parse_url(redis_url(source.url())).get("db") or 0)
        except (AdapterError, ValueError):
            database = 0  # a URL that is wrong or cannot be read yet
    layout = Layout(options, database)
    prefix = escape_glob(options.global_keyprefix)
    words = [
        f"~{layout.bindings}",
        f"~{escape_glob(layout.unacked)}",
        f"~{escape_glob(layout.unacked_index)}",
        f"&{layout.events}",
        *("-@all", "+hello", "+select", "+ping", "+time", "+scan", "+psubscribe"),
        *("+scard", "+smembers", "+hlen", "+hstrlen", "+hmget", "+zcard", "+zrange"),
    ]
    return acl_line(words, (f"~{prefix}*", "-@all", "+llen"))


async def diagnose(source: Source, broker: Broker) -> list[Finding]:
    """What was found on the broker, and what the application could tell but does not."""
    findings = [*await _queues(source, broker), *await _oldest(source, broker)]
    follower = broker.shared.follower
    if follower is None:
        return findings + await _listen(broker, source.timeout)
    if not any(worker.up for worker in follower.workers):
        findings.append(_NO_WORKERS)
    if silent := follower.without_task_events:
        text = f"{len(silent)} workers run tasks and send no task events, e.g. {silent[0]}"
        findings.append(Finding(level="problem", text=text, advice=_USE_E))
    if follower.without_task_sent:
        findings.append(Finding(level="note", text="producers send no task-sent events", advice=_SEND_SENT))
    return findings


_USE_E = "start workers with -E, or set worker_send_task_events = True, to count what they start and finish"
_SEND_SENT = "set task_send_sent_event = True on producers and workers for queue names, enqueued counts and wait times"
_NO_WORKERS = Finding(
    level="note",
    text="no worker sends heartbeats",
    advice="start a worker without --without-heartbeat; check event_exchange and global_keyprefix where one runs",
)


async def _queues(source: Source, broker: Broker) -> list[Finding]:
    await broker.read_in_background()
    names = [q for q in await broker.queue_search.names(source.timeout) if source.queues.wants(q)]
    if error := broker.queue_search.problem:
        return [Finding(level="problem", text=f"queues cannot be found: {error}", advice="see `taskq-exporter grants`")]
    if not names:
        advice = "check the database number and global_keyprefix, or start a worker or a producer once"
        return [Finding(level="problem", text="no queue was ever declared here", advice=advice)]
    return [Finding(level="ok", text=f"{len(names)} queues: {', '.join(sorted(names)[:10])}")]


async def _oldest(source: Source, broker: Broker) -> list[Finding]:
    oldest = await broker.redis.command("ZRANGE", broker.layout.unacked_index, 0, 0, "WITHSCORES")
    if not oldest or await broker.redis.time() - float(oldest[1]) < source.options.visibility_timeout:
        return []
    text = "a message is unacknowledged for longer than the visibility timeout: it is delivered twice"
    return [Finding(level="problem", text=text, advice="raise visibility_timeout above the longest ETA and task")]


async def _listen(broker: Broker, timeout: float) -> list[Finding]:
    """What can be told by listening for a moment."""
    kinds: set[str] = set()
    async with subscribe(broker.redis, broker.layout.events, timeout) as subscription:
        try:
            async with asyncio.timeout(LISTEN):
                while True:
                    for payload in await subscription.read():
                        try:
                            kinds |= {str(event.get("type")) for event in decode(payload)}
                        except (UndecodableError, AttributeError):
                            kinds.add("undecodable")
        except TimeoutError:
            pass
    if not any(kind.startswith("worker-") for kind in kinds):
        return [_NO_WORKERS]
    if any(kind.startswith("task-") for kind in kinds):
        return [Finding(level="ok", text="workers send heartbeats and task events")]
    return [Finding(level="note", text="workers send heartbeats, but no task event came just now", advice=_USE_E)]
