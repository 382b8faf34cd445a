"""All alerts."""

from __future__ import annotations

from taskq_exporter.mixin.alert import Alert
from taskq_exporter.mixin.queue_alerts import objectives, queues, tasks
from taskq_exporter.mixin.source_alerts import brokers, exporters, schedules, sources, workers
from taskq_exporter.mixin.thresholds import Thresholds

__all__ = ["alerts"]


def alerts(thresholds: Thresholds) -> list[Alert]:
    """Every alert, what users feel first."""
    parts = (queues, objectives, tasks, workers, schedules, sources, brokers, exporters)
    return [alert for part in parts for alert in part(thresholds)]
