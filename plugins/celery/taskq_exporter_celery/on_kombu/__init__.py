"""Celery on any other broker on which `celery events` works, through kombu itself in threads."""

from taskq_exporter_celery.on_kombu.broker import connect, grants

__all__ = ["connect", "grants"]
