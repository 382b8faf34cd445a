"""The adapter's own options: they repeat what the Django project sets in OPTIONS of its TASKS."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from taskq_exporter.api import Options, Period, Seconds


class DjangoTasksRedisOptions(Options):
    """Options of a django_tasks_redis source; durations are seconds or Prometheus durations."""

    expands: ClassVar[dict[str, str]] = {"aliases": "alias"}
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "unix")

    prefix: str = Field(default="django_tasks", min_length=1)  # REDIS_KEY_PREFIX
    alias: str = Field(default="default", min_length=1)  # key of TASKS
    group: str = Field(default="django_tasks_workers", min_length=1)  # REDIS_CONSUMER_GROUP
    result_ttl: Seconds = 30 * 86400.0  # REDIS_RESULT_TTL; 0: results never expire
    completed_ttl: Seconds | None = None  # REDIS_COMPLETED_TASK_TTL; None: as result_ttl
    claim_timeout: Period = 300.0  # REDIS_CLAIM_TIMEOUT
    alive_within: Period = 15.0  # a consumer that read no longer ago is a worker that lives
    poll_interval: Period = 5.0  # between looks at what finished
    overlap: Period = 60.0  # read again: more than the workers' clocks differ and their slowest commit takes
    discovery_interval: Period = 300.0  # between searches of all keys for queues

    @property
    def finished_ttl(self) -> float:
        """Seconds that a finished task is kept; 0: for ever."""
        return self.result_ttl if self.completed_ttl is None else self.completed_ttl
