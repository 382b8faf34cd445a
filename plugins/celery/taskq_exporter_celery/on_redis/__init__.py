"""Celery on Redis or Valkey, read without kombu: one round trip for all queues, and its pub/sub for events."""

from taskq_exporter_celery.on_redis.broker import connect
from taskq_exporter_celery.on_redis.checks import grants

__all__ = ["connect", "grants"]
