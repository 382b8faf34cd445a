"""What the two servers tell of themselves, as those of one source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from taskq_exporter_redis import ServerInfo
from taskq_exporter_redis import Told as RedisTold
from taskq_exporter_sql import Told as DatabaseTold

from taskq_exporter.api import BrokerStats, Capability, Sample
from taskq_exporter_taskflow.names import REDIS_COMMANDS, REDIS_CONNECTIONS

__all__ = ["redis_info", "samples_of", "servers"]

#: Redis tells its memory, which the database does not; the rest is told of the database, for which the source's URL is.
_MEMORY: Final = ("taskq_broker_memory_bytes", "taskq_broker_memory_limit_bytes")
#: What is told of Redis in families of the adapter's own, and what it is with sources that have one server.
_OWN: Final = {
    REDIS_CONNECTIONS: ("taskq_broker_connections", "taskq_broker_connections_limit"),
    REDIS_COMMANDS: ("taskq_broker_commands_total",),
}


def redis_info(disabled: Collection[str]) -> ServerInfo:
    """What Redis is asked of itself: all but what no family of these tells."""
    unasked = [name for own, families in _OWN.items() if own in disabled for name in families]
    return ServerInfo([*unasked, *(name for name in _MEMORY if name in disabled)])


def samples_of(redis: RedisTold) -> Iterator[Sample]:
    """What Redis tells of itself, under names of the adapter's own."""
    yield from (Sample(REDIS_CONNECTIONS, (state,), n) for state, n in redis.stats.connections.items())
    yield from (Sample(REDIS_COMMANDS, (command,), n) for command, n in redis.stats.commands.items())


def servers(database: DatabaseTold | None, redis: RedisTold | None) -> tuple[BrokerStats, list[Capability]]:
    """Memory and its limit of Redis, all else of the database; nothing of one that is away."""
    stats = database.stats if database else BrokerStats()
    capabilities = {c.family: c for c in database.capabilities} if database else {}
    if redis:
        stats = replace(stats, memory_bytes=redis.stats.memory_bytes, memory_limit_bytes=redis.stats.memory_limit_bytes)
        capabilities |= {c.family: c for c in redis.capabilities if c.family in _MEMORY}
    return stats, [*capabilities.values()]
