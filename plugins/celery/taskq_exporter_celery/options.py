"""The adapter's own options: they repeat what the Celery application sets, under the same names."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from taskq_exporter_redis import SentinelOptions

from taskq_exporter.api import Period

Step = Annotated[int, Field(ge=0, le=255)]


class SchedulerOptions(BaseModel):
    """A scheduler that should live: when it is silent for longer than `max_silence` it is down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The label `scheduler`; beat and redbeat are known by more than their tasks.
    name: Annotated[str, Field(min_length=1, max_length=64)]
    #: Silent for longer: it is down. Not set: told by the due times of its entries, where they can be read.
    max_silence: Period | None = None
    #: Globs of the tasks that it sends, which are its signs of life.
    tasks: tuple[Annotated[str, Field(min_length=1)], ...] = ()


def _distinct(schedulers: tuple[SchedulerOptions, ...]) -> tuple[SchedulerOptions, ...]:
    names = [scheduler.name for scheduler in schedulers]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the scheduler {min(twice)} is there twice")
    unheard = [s.name for s in schedulers if not s.tasks and s.name not in ("beat", "redbeat")]
    if unheard and len(names) > 1:
        raise ValueError(f"of several schedulers, {unheard[0]} is only told apart by its tasks: name them")
    return schedulers


def _http(url: Any) -> Any:
    if isinstance(url, str) and not re.match("https?://[^/]", url):
        raise ValueError("must begin with http:// or https:// and a host")
    return url


class CeleryOptions(SentinelOptions):
    """Options of a celery source; durations are seconds or Prometheus durations."""

    expands: ClassVar[dict[str, str]] = {"databases": "database", "virtual_hosts": "virtual_host"}
    schemes: ClassVar[tuple[str, ...]] = (
        *("redis", "rediss", "sentinel", "unix", "socket"),
        *("amqp", "amqps", "pyamqp"),
        *("filesystem", "mongodb", "pgmq", "qpid", "gcpubsub"),
    )

    #: Instead of the URL's database.
    database: Annotated[int, Field(ge=0)] | None = None
    #: Instead of the URL's virtual host; RabbitMQ.
    virtual_host: Annotated[str, Field(min_length=1)] | None = None
    #: RabbitMQ's management API, with user and password where they are not the URL's.
    management_url: Annotated[SecretStr, BeforeValidator(_http)] | None = None
    #: What the application's broker_transport_options say, for brokers other than Redis and RabbitMQ.
    transport_options: dict[str, Any] = Field(default={}, repr=False)
    #: Of broker_transport_options.
    global_keyprefix: str = ""
    #: Of broker_transport_options.
    priority_steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)] = (0, 3, 6, 9)
    #: Of broker_transport_options.
    sep: Annotated[str, Field(min_length=1)] = "\x06\x16"
    #: Of broker_transport_options.
    fanout_prefix: bool | str = True
    #: Whether workers run kombu before 5.4 behind Sentinels.
    sentinel_fanout_compat: bool = False
    #: Of broker_transport_options: an unacknowledged message is given out again after it.
    visibility_timeout: Period = 3600.0
    #: Whether the oldest message of each queue is looked at, for its age.
    peek: bool = True
    #: The header of a message that says when it was sent, in Unix seconds or ISO 8601: sentry-sdk writes this one.
    enqueued_header: Annotated[str, Field(min_length=1)] = "sentry-task-enqueued-time"
    #: The application's event_exchange.
    event_exchange: Annotated[str, Field(min_length=1)] = "celeryev"
    #: The application's control_exchange.
    control_exchange: Annotated[str, Field(min_length=1)] = "celery"
    #: Whether workers are asked for slots, pool, prefetch limit and queues, by remote control.
    inspect: bool = True
    #: How often; one that has just started is asked within seconds.
    inspect_interval: Period = 30.0
    #: A worker that is silent for longer is down. A worker with the solo pool is silent while it runs a task.
    heartbeat_timeout: Period = 60.0
    #: Between searches of all keys for queues. Those that task-sent events name are known at once.
    discovery_interval: Period = 60.0
    #: What sends periodic tasks.
    schedulers: Annotated[tuple[SchedulerOptions, ...], Field(max_length=20), AfterValidator(_distinct)] = ()
    #: Whether redbeat's keys are read: auto where there are some, true also where there are none.
    redbeat: Literal["auto", True, False] = "auto"
    #: As in the application's settings.
    redbeat_key_prefix: Annotated[str, Field(min_length=1)] = "redbeat:"
