"""What a person needs to set a source on Redis up: the rights it takes, and what is wrong there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskq_exporter_redis import acl_line, connect, escape_glob, scan

from taskq_exporter.api import AdapterError, Finding, Reason, Source
from taskq_exporter_celery.on_redis import pidbox
from taskq_exporter_celery.on_redis.layout import Layout
from taskq_exporter_celery.on_redis.redbeat import rights as redbeat_rights
from taskq_exporter_celery.on_redis.urls import parsed, redis_urls
from taskq_exporter_celery.options import CeleryOptions

if TYPE_CHECKING:
    from taskq_exporter_celery.on_redis.broker import RedisBroker

#: Slices of 1,000 keys that are looked through for results.
RESULT_SLICES = 20


def grants(source: Source) -> str:
    """The ACL line for Redis 7 or Valkey: read-only commands, each on its keys; and what remote control takes.

    Any list may be a queue, so LLEN is allowed on all, and LINDEX where the option `peek` is on; nothing else shows a
    message, but what reads `unacked`.
    """
    options: CeleryOptions = source.options
    database = options.database
    if database is None:
        try:
            database = int(parsed(source.url()).get("db") or 0)
        except (AdapterError, ValueError):
            database = 0  # a URL that is wrong or cannot be read yet
    layout = Layout(options, database)
    prefix = escape_glob(options.global_keyprefix)
    words = [
        f"~{layout.bindings}",
        f"~{escape_glob(layout.unacked)}",
        f"~{escape_glob(layout.unacked_index)}",
        f"&{layout.events}",
        *("-@all", "+hello", "+select", "+ping", "+time", "+scan", "+psubscribe", "+info"),
        *("+scard", "+smembers", "+hlen", "+hstrlen", "+hmget", "+zcard", "+zrange"),
    ]
    redbeat = [] if options.redbeat is False else [redbeat_rights(options)]
    inspect = [pidbox.rights(layout)] if options.inspect else []
    peek = ["+lindex"] if options.peek else []
    return acl_line(words, (f"~{prefix}*", "-@all", "+llen", *peek), *inspect, *redbeat)


async def findings(broker: RedisBroker) -> list[Finding]:
    """What was found on the broker, beside the problems of a collect."""
    queues = await _queues(broker)
    collected = (await broker.collect()).findings
    return list(dict.fromkeys((*queues, *collected, *await _redbeat(broker), *await _results(broker))))


async def _queues(broker: RedisBroker) -> list[Finding]:
    await broker.read_in_background()
    names = [q for q in await broker.queue_search.names(broker.source.timeout) if broker.source.queues.wants(q)]
    if broker.queue_search.problem:
        return []
    if not names:
        advice = "check the database number and global_keyprefix, or start a worker or a producer once"
        return [Finding(level="problem", text="no queue was ever declared here", advice=advice)]
    return [Finding(level="ok", text=f"{len(names)} queues: {', '.join(sorted(names)[:10])}")]


async def _redbeat(broker: RedisBroker) -> list[Finding]:
    told = await broker.redbeat.told(broker.source.timeout, None)
    entries = [s.entry_count for s in told.schedulers]
    if told.problems:
        return []
    return [*told.findings] or [Finding(level="ok", text=f"redbeat: {n} entries, none overdue") for n in entries]


async def _results(broker: RedisBroker) -> list[Finding]:
    """Whether results share the broker's memory, as far as some of the keys tell."""
    found = 0
    try:
        async for _ in scan(broker.redis, "*celery-task-meta-*", slices=RESULT_SLICES):
            found += 1
    except AdapterError as error:
        if error.reason is not Reason.COST:
            return []
    if not found:
        return []
    text = f"results are kept in the broker's database, at least {found}: they share its memory with the queues"
    advice = "give result_backend a server of its own, or set task_ignore_result or a shorter result_expires"
    return [Finding(level="note", text=text, advice=advice)]


def database(url: str) -> object:
    """Server and database of a URL, whoever logs in."""
    try:
        told = parsed(url)
    except (AdapterError, ValueError):
        return url
    defaults = {"host": "localhost", "port": 6379, "db": 0, "path": None}
    return [told.get(key, default) for key, default in defaults.items()]


async def has_queues(url: str) -> bool:
    """Whether Celery declared queues in a database. Raises AdapterError where it cannot be read."""
    source = Source(name="detect", adapter="celery", url=lambda: redis_urls(url)[0], options=CeleryOptions())
    async with connect(source) as client:
        async for _ in scan(client, Layout(source.options, 0).bindings, "set"):
            return True
    return False
