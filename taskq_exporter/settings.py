"""The configuration's models: the core's options of a source, each with its check and default."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from taskq_exporter.durations import Period, Seconds
from taskq_exporter.schema import CAPPED_LABELS, LABEL_SETS_CAP, RUN_BOUNDS, WAIT_BOUNDS

__all__ = ["Core", "SourceConfig", "StateConfig"]


def _increasing(bounds: tuple[float, ...]) -> tuple[float, ...]:
    rising = all(a < b < math.inf for a, b in zip((0.0, *bounds), bounds, strict=False))  # false for NaN
    if not rising or not bounds:
        raise ValueError("bucket bounds must be above 0, finite and each above the one before")
    return bounds


def _not_empty(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    return value


def _known_limits(limits: dict[str, int]) -> dict[str, int]:
    known = (*CAPPED_LABELS, "series")
    if unknown := [name for name in limits if name not in known]:
        raise ValueError(f"unknown label {unknown[0]!r}; there are {', '.join(known)}")
    return limits


def _one_a_queue(objectives: tuple[ObjectiveConfig, ...]) -> tuple[ObjectiveConfig, ...]:
    queues = [objective.queue for objective in objectives]
    if twice := [queue for queue in queues if queues.count(queue) > 1]:
        raise ValueError(f"queue {twice[0]!r} has more than one objective")
    return objectives


Bounds = Annotated[tuple[float, ...], AfterValidator(_increasing)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskFilter(_Model):
    """Names by shell globs."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


class QueueFilter(TaskFilter):
    """Queues by shell globs; expected ones are 0 from the first page on."""

    expected: tuple[str, ...] = ()


class Buckets(_Model):
    """Upper bounds of the histograms in seconds."""

    run: Bounds = RUN_BOUNDS
    wait: Bounds = WAIT_BOUNDS


class ObjectiveConfig(_Model):
    """What part of a queue's tasks should start within which time."""

    queue: str
    start_within: Seconds
    ratio: float = Field(gt=0, le=1)


class Core(_Model):
    """The core's options of a source that `defaults` may set too."""

    timeout: Period = 5.0
    min_interval: Seconds = 0.0
    duty_cycle: Annotated[float, Field(gt=0, le=1)] | None = None
    queues: QueueFilter = QueueFilter()
    tasks: TaskFilter = TaskFilter()
    task_labels: tuple[Annotated[str, Field(pattern="^(queue|task|worker)$")], ...] = ("queue", "task")
    buckets: Buckets = Buckets()
    limits: Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_known_limits)] = {}
    disable: tuple[str, ...] = ()
    annotations: dict[Annotated[str, Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = {}
    objectives: Annotated[tuple[ObjectiveConfig, ...], AfterValidator(_one_a_queue)] = ()
    queue_ttl: Period = 86400.0
    worker_ttl: Period = 600.0
    series_ttl: Period = 86400.0

    def caps(self) -> dict[str, int]:
        """How many values of each label this source may have."""
        return {label: self.limits.get(label, cap) for label, cap in CAPPED_LABELS.items()}

    def ttls(self) -> dict[str, float]:
        """After how many seconds a value of each label that was not seen is forgotten."""
        kinds = {"worker": self.worker_ttl, **dict.fromkeys(("queue", "scheduler", "entry"), self.queue_ttl)}
        return {label: kinds.get(label, self.series_ttl) for label in CAPPED_LABELS}

    def label_sets(self) -> int:
        """How many label sets each ledger family of this source may have."""
        return self.limits.get("series", LABEL_SETS_CAP)


class SourceConfig(Core):
    """One source as configured."""

    name: str = Field(min_length=1, max_length=100)
    adapter: str
    url: Annotated[str | None, BeforeValidator(_not_empty)] = Field(default=None, repr=False)
    url_file: Annotated[Path | None, BeforeValidator(_not_empty)] = None

    @model_validator(mode="after")
    def _one_url(self) -> SourceConfig:
        if self.url is not None and self.url_file is not None:
            raise ValueError("a source has either url or url_file")
        return self


class StateConfig(_Model):
    """Where checkpoints are kept."""

    dir: Annotated[Path | None, BeforeValidator(_not_empty)] = None
