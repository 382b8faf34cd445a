"""The adapter's own options: the other server, and what cannot be seen in either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from taskq_exporter_redis import SentinelOptions
from taskq_exporter_sql import DEFAULT_SCHEMA

from taskq_exporter.api import Period

__all__ = ["TaskflowOptions"]


def _not_empty(url: Any) -> Any:
    if isinstance(url, str) and not url.strip():
        raise ValueError("must not be empty")
    return url


class TaskflowOptions(SentinelOptions):
    """Options of a taskflow source, whose `url` is the database; durations are seconds or Prometheus durations."""

    core_defaults: ClassVar[Mapping[str, Any]] = {"duty_cycle": 0.05}
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    #: TaskFlow's Redis, with credentials.
    redis_url: Annotated[SecretStr, BeforeValidator(_not_empty)]
    db_schema: str = Field(default=DEFAULT_SCHEMA, alias="schema", min_length=1)  # where its tables are
    naive_timezone: str = "UTC"  # of all its times: the time zone of its database sessions
    offline_after: Period = 30.0  # without a heartbeat; TaskFlow's own limit
    scheduler_late_after: Period = 150.0  # a due task that the scheduler, which looks every 60 s, has not moved
    poll_interval: Period = 15.0  # between looks at what has finished
    lookback: Period = 3600.0  # without an index on updated_at: how long before its end a task was created at most
    overlap: Period = 600.0  # how much older than their commit the times in a row may be
    max_count: int = Field(default=100_000, ge=1)  # at how many rows of one status a count stops
    allow_seq_scan: bool = False  # send statements that read large tables from end to end, too

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of all times in the database."""
        return ZoneInfo(self.naive_timezone)

    @field_validator("naive_timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"unknown time zone {name!r}") from None
        except KeyError:
            raise ValueError(f"unknown time zone {name!r}; write one like Europe/Berlin") from None
        return name
