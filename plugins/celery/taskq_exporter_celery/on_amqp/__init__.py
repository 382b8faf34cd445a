"""Celery on RabbitMQ: sizes by passive declares, events by a queue of our own, the rest by its management API."""

from taskq_exporter_celery.on_amqp.broker import connect
from taskq_exporter_celery.on_amqp.checks import grants

__all__ = ["connect", "grants"]
