"""The adapter's own options: they repeat what the Celery application sets, under the same names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from taskq_exporter.api import Options, Period

Step = Annotated[int, Field(ge=0, le=255)]


class CeleryOptions(Options):
    """Options of a celery source; durations are seconds or Prometheus durations."""

    expands: ClassVar[dict[str, str]] = {"databases": "database"}
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "unix", "socket")

    #: Instead of the URL's database.
    database: Annotated[int, Field(ge=0)] | None = None
    # of broker_transport_options
    global_keyprefix: str = ""
    priority_steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)] = (0, 3, 6, 9)
    sep: Annotated[str, Field(min_length=1)] = "\x06\x16"
    fanout_prefix: bool | str = True
    visibility_timeout: Period = 3600.0
    #: The application's event_exchange.
    event_exchange: Annotated[str, Field(min_length=1)] = "celeryev"
    #: A worker that is silent for longer is down. A worker with the solo pool is silent while it runs a task.
    heartbeat_timeout: Period = 60.0
    #: Between searches of all keys for queues. Those that task-sent events name are known at once.
    discovery_interval: Period = 60.0
