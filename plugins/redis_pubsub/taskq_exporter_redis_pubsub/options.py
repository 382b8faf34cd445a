"""The adapter's own options."""

from __future__ import annotations

from typing import ClassVar

from taskq_exporter_redis import SentinelOptions

from taskq_exporter.api import Period

__all__ = ["PubsubOptions"]


class PubsubOptions(SentinelOptions):
    """Options of a redis_pubsub source; durations are seconds or Prometheus durations."""

    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "sentinel", "unix")

    worker_interval: Period = 15.0  # between searches of all keys for workers and their active tasks
    discovery_interval: Period = 300.0  # between searches of all keys for queues
