"""The adapter's own options: the other server, and what cannot be seen in either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator
from taskq_exporter_redis import SentinelOptions
from taskq_exporter_sql import DEFAULT_SCHEMA

from taskq_exporter.api import AdapterError, Period, Reason

__all__ = ["TaskflowOptions"]


class TaskflowOptions(SentinelOptions):
    """Options of a taskflow source, whose `url` is the database; durations are seconds or Prometheus durations."""

    core_defaults: ClassVar[Mapping[str, Any]] = {"duty_cycle": 0.05}
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    redis_url: SecretStr | None = None
    redis_url_file: Path | None = None  # read again at each connect
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

    def read_redis_url(self) -> str:
        """The URL of Redis, with its credentials. Raises AdapterError(auth) where the file cannot be read."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        try:
            return (self.redis_url_file or Path()).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AdapterError(
                Reason.AUTH,
                f"redis_url_file {self.redis_url_file} cannot be read: {type(error).__name__};"
                " check the mount and its rights",
            ) from None

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

    @field_validator("redis_url")
    @classmethod
    def _not_empty(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().strip():
            raise ValueError("must not be empty")
        return url

    @model_validator(mode="after")
    def _one_redis(self) -> TaskflowOptions:
        if (self.redis_url is None) == (self.redis_url_file is None):
            raise ValueError("a taskflow source has either redis_url or redis_url_file beside its url")
        return self
