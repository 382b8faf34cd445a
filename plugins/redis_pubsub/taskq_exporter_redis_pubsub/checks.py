"""What the operator is told: a source that is there, rights that are needed, things to put right."""

from __future__ import annotations

from collections.abc import Mapping

from taskq_exporter_redis import acl_line, connect, scan

from taskq_exporter.api import AdapterError, Detected, Finding, Reason, Source, State
from taskq_exporter_redis_pubsub.client import Client
from taskq_exporter_redis_pubsub.collect import collect
from taskq_exporter_redis_pubsub.names import PATTERNS, QUEUE, REGISTERED
from taskq_exporter_redis_pubsub.options import PubsubOptions

__all__ = ["detect", "diagnose", "grants"]

#: Slices of 1,000 keys that detect() looks through.
DETECT_SLICES = 1_000

_COMMANDS = ("llen", "scan", "psubscribe", "ping", "pubsub|numsub", "pubsub|channels", "info", "select", "hello")


def grants() -> str:
    """The ACL line. SCAN shows the names of all keys, and no content; the channels are only listened to."""
    channels = (f"&{pattern}" for pattern in PATTERNS)
    return acl_line(
        (f"~{QUEUE}*", *channels, "-@all", *(f"+{command}" for command in _COMMANDS)),
        (f"~{REGISTERED}*", "-@all", "+hmget"),
    )


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """The allocator of REDIS_URL, where a worker has registered there. Raises AdapterError."""
    url = env.get("REDIS_URL")
    if not url:
        return []
    source = Source(name="detect", adapter="redis_pubsub", url=lambda: url, options=PubsubOptions())
    async with connect(source) as redis:
        try:
            async for key in scan(redis, f"{REGISTERED}*", "hash", slices=DETECT_SLICES):
                if all(await redis.command("HMGET", key, "name", "queues", "registered_at")):
                    return [Detected(name=source.adapter, url=url)]
        except AdapterError as error:
            if error.reason is not Reason.COST:
                raise
    return []


async def diagnose(client: Client) -> list[Finding]:
    """What was found, beside the problems of a collect. Raises as collect()."""
    snapshot = await collect(client)
    found = [Finding(level="ok", text=f"{snapshot.server or 'server'} {snapshot.server_version} answers".strip())]
    if not snapshot.workers:
        advice = "call register_worker() of the allocator; is this the database of its REDIS_URL?"
        found.append(Finding(level="note", text=f"no worker has registered below {REGISTERED}", advice=advice))
    for worker in snapshot.workers:
        if worker.up is False:
            text = f"worker {worker.name} is registered, and nobody listens to its channel"
            advice = f"start it; if it is gone for good: DEL {REGISTERED}{worker.name}"
            found.append(Finding(level="note", text=text, advice=advice))
    for queue in snapshot.queues:
        if (ready := queue.tasks.get(State.READY, 0)) and queue.consumers == 0:
            text = f"{queue.name}: {ready} tasks wait, and nobody listens to tasks:{queue.name}"
            found.append(Finding(level="problem", text=text, advice="start a worker that subscribes to the queue"))
    return found
