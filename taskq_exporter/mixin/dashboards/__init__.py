"""Grafana dashboards as data: a module each."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.exporter import EXPORTER
from taskq_exporter.mixin.dashboards.overview import OVERVIEW
from taskq_exporter.mixin.dashboards.panels import Dashboard
from taskq_exporter.mixin.dashboards.queue import QUEUE
from taskq_exporter.mixin.dashboards.source import SOURCE
from taskq_exporter.mixin.dashboards.tasks import TASKS
from taskq_exporter.mixin.dashboards.workers import WORKERS

__all__ = ["DASHBOARDS"]

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, QUEUE, TASKS, WORKERS, SOURCE, EXPORTER)
