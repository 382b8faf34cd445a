"""The configuration's models: the core's options of a source, each with its check and default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from taskq_exporter.schema import CAPPED_LABELS, FAMILIES, LABEL_SETS_CAP, RUN_BOUNDS, WAIT_BOUNDS

__all__ = ["Core", "SourceConfig", "StateConfig", "duration"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(value: object) -> float:
    """Seconds of a Prometheus duration ("500ms", "1m30s", "7d") or of a number. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    parts = re.findall(r"(\d+)(ms|[smhdw])", value) if isinstance(value, str) else []
    if not parts or "".join(n + unit for n, unit in parts) != value:
        raise ValueError("not a duration: write it as 500ms, 30s, 1m30s, 24h or 7d")
    return float(sum(int(n) * _UNITS[unit] for n, unit in parts))


def _increasing(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if any(b <= a for a, b in zip((0.0, *bounds), bounds, strict=False)) or not bounds:
        raise ValueError("bucket bounds must be above 0 and each above the one before")
    return bounds


def _family(name: str) -> str:
    if name in FAMILIES or not name.startswith("taskq_source_"):
        return name
    raise ValueError(f"unknown family {name!r}")


def _known_limits(limits: dict[str, int]) -> dict[str, int]:
    known = (*CAPPED_LABELS, "series")
    if unknown := [name for name in limits if name not in known]:
        raise ValueError(f"unknown label {unknown[0]!r}; there are {', '.join(known)}")
    return limits


Duration = Annotated[float, BeforeValidator(duration), Field(ge=0, allow_inf_nan=False)]
Timeout = Annotated[float, BeforeValidator(duration), Field(gt=0, allow_inf_nan=False)]
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
    start_within: Duration
    ratio: float = Field(gt=0, le=1)


class Core(_Model):
    """The core's options of a source that `defaults` may set too."""

    timeout: Timeout = 5.0
    min_interval: Duration = 0.0
    duty_cycle: Annotated[float, Field(gt=0, le=1)] | None = None
    queues: QueueFilter = QueueFilter()
    tasks: TaskFilter = TaskFilter()
    task_labels: tuple[Annotated[str, Field(pattern="^(queue|task|worker)$")], ...] = ("queue", "task")
    buckets: Buckets = Buckets()
    limits: Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_known_limits)] = {}
    disable: tuple[Annotated[str, AfterValidator(_family)], ...] = ()
    annotations: dict[Annotated[str, Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = {}
    objectives: tuple[ObjectiveConfig, ...] = ()
    queue_ttl: Timeout = 86400.0
    worker_ttl: Timeout = 600.0
    series_ttl: Timeout = 86400.0

    def caps(self) -> dict[str, int]:
        """How many values of each label this source may have."""
        return {label: self.limits.get(label, cap) for label, cap in CAPPED_LABELS.items()}

    def label_sets(self) -> int:
        """How many label sets each ledger family of this source may have."""
        return self.limits.get("series", LABEL_SETS_CAP)


class SourceConfig(Core):
    """One source as configured."""

    name: str = Field(min_length=1, max_length=100)
    adapter: str
    url: str | None = Field(default=None, repr=False)
    url_file: Path | None = None

    @model_validator(mode="after")
    def _one_url(self) -> SourceConfig:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("a source has either url or url_file")
        return self


class StateConfig(_Model):
    """Where checkpoints are kept."""

    dir: Path | None = None
