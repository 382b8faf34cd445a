"""Every threshold of the alerts, in one place; `taskq-exporter mixin --set NAME=VALUE` sets another one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Seconds, numbers and ratios."""

    #: A ready task may be this old (seconds), where its queue has no objective.
    oldest_age_seconds: float = 300
    #: Fewer ready tasks are never a growing backlog.
    backlog_tasks: float = 100
    #: Growth within 15 minutes that is a growing backlog.
    backlog_growth_ratio: float = 1.5
    #: A backlog must be worked off within this time (seconds).
    drain_seconds: float = 3600
    #: A run this long (seconds) is stuck.
    stuck_seconds: float = 3600
    #: A schedule may be overdue by this (seconds).
    overdue_seconds: float = 120
    #: What part of the tasks may fail, of at least `failure_rate_floor` ends a second.
    failure_ratio: float = 0.05
    failure_rate_floor: float = 0.01
    #: Retries for each end, of at least `retry_rate_floor` retries a second, that are a storm.
    retry_ratio: float = 0.5
    retry_rate_floor: float = 0.1
    #: What part of the workers of the last hour must be there.
    workers_ratio: float = 0.5
    #: What part of a broker's memory or connections may be used.
    broker_ratio: float = 0.9
    #: A follower may be this far behind (seconds).
    lag_seconds: float = 300
