"""What the two servers tell of themselves, as those of one source."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taskq_exporter_redis import Told as RedisTold
from taskq_exporter_sql import Told as DatabaseTold

from taskq_exporter.api import BrokerStats, Capability

__all__ = ["NOT_OF_REDIS", "servers"]

#: Redis tells its memory, which the database does not; the rest is told of the database, for which the source's URL is.
NOT_OF_REDIS: Final = frozenset(
    {"taskq_broker_connections", "taskq_broker_connections_limit", "taskq_broker_commands_total"}
)
_MEMORY = ("taskq_broker_memory_bytes", "taskq_broker_memory_limit_bytes")


def servers(database: DatabaseTold | None, redis: RedisTold | None) -> tuple[BrokerStats, list[Capability]]:
    """Memory and its limit of Redis, all else of the database; nothing of one that is away."""
    stats = database.stats if database else BrokerStats()
    capabilities = {c.family: c for c in database.capabilities} if database else {}
    if redis:
        stats = replace(stats, memory_bytes=redis.stats.memory_bytes, memory_limit_bytes=redis.stats.memory_limit_bytes)
        capabilities |= {c.family: c for c in redis.capabilities if c.family in _MEMORY}
    return stats, [*capabilities.values()]
