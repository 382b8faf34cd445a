"""The configuration's models: the core's options of a source, each with its check and default."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from taskq_exporter.config.durations import Period, Seconds
from taskq_exporter.config.explain import close_to
from taskq_exporter.schema import CAPPED_LABELS, LABEL_SETS_CAP, RUN_BOUNDS, WAIT_BOUNDS

__all__ = ["Core", "SourceConfig", "StateConfig"]

#: How many bounds objectives may add to the wait histogram, each a series of every queue.
OBJECTIVE_BOUNDS = 10


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


def _few_bounds(objectives: tuple[ObjectiveConfig, ...], info: ValidationInfo) -> tuple[ObjectiveConfig, ...]:
    buckets = info.data.get("buckets")
    more = {objective.start_within for objective in objectives} - {*(buckets.wait if buckets else ())}
    if len(more) > OBJECTIVE_BOUNDS:
        raise ValueError(
            f"{len(more)} different start_within, each a further bound of every queue's wait histogram: at most"
            f" {OBJECTIVE_BOUNDS} beside buckets.wait; let queues share some"
        )
    return objectives


def _known_mapping(name: str) -> str:
    from taskq_exporter.compat.mapping import mapping_names  # a start without any needs none of it

    if name not in mapping_names():
        raise ValueError(f"unknown mapping {name!r}{close_to(name, mapping_names())}; see docs/compat.md")
    return name


LabelName = Annotated[str, Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]
Bounds = Annotated[tuple[float, ...], AfterValidator(_increasing)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskFilter(_Model):
    """Names by shell globs."""

    #: Globs of what is shown.
    include: tuple[str, ...] = ("*",)
    #: Globs of what of that is not.
    exclude: tuple[str, ...] = ()


class QueueFilter(TaskFilter):
    """Queues by shell globs; expected ones are 0 from the first page on."""

    #: Queues that are there, at 0, from the first page on.
    expected: tuple[str, ...] = ()


class Buckets(_Model):
    """Upper bounds of the histograms in seconds."""

    #: Upper bounds of the run histogram, in seconds.
    run: Bounds = RUN_BOUNDS
    #: Upper bounds of the wait histogram, in seconds.
    wait: Bounds = WAIT_BOUNDS


class ObjectiveConfig(_Model):
    """What part of a queue's tasks should start within which time."""

    #: The queue's name.
    queue: str
    #: Its tasks should start within this time of when they could; a bound of the wait histogram, too.
    start_within: Annotated[Period, Field(ge=0.001, lt=1e6)]
    #: For this part of them, e.g. 0.99.
    ratio: float = Field(gt=0, le=1)


class CompatConfig(_Model):
    """A mapping that a source asks for, and how its users had set up the other exporter."""

    #: The mapping's name: docs/compat.md.
    mapping: Annotated[str, AfterValidator(_known_mapping)]
    #: Instead of the beginning that all names have in common.
    prefix: Annotated[str, Field(pattern="^([a-zA-Z_:][a-zA-Z0-9_:]*)?$")] | None = None
    #: Further labels of every series.
    labels: dict[LabelName, str] = {}
    #: Labels that have one value in all counters and histograms: fewer series.
    fixed: dict[LabelName, str] = {}
    #: What a label says where its value is not known.
    default: dict[LabelName, str] = {}
    #: Other bounds, by the name of the histogram in the mapping.
    buckets: dict[str, Bounds] = {}


def _by_name(entry: object) -> object:
    return {"mapping": entry} if isinstance(entry, str) else entry


class Core(_Model):
    """The core's options of a source that `defaults` may set too."""

    #: How long one look at the source may take.
    timeout: Period = 5.0
    #: Scrapes that follow each other within this time share one look.
    min_interval: Seconds = 0.0
    #: At most this part of the time is spent looking; what was seen last is shown meanwhile.
    duty_cycle: Annotated[float, Field(gt=0, le=1)] | None = None
    #: Which queues are shown.
    queues: QueueFilter = QueueFilter()
    #: Which tasks the counters tell by name.
    tasks: TaskFilter = TaskFilter()
    #: What the task counters and histograms carry, of queue, task, worker.
    task_labels: tuple[Annotated[str, Field(pattern="^(queue|task|worker)$")], ...] = ("queue", "task")
    #: Bounds of the histograms.
    buckets: Buckets = Buckets()
    #: How many values of a label there may be; `series`: label sets of each counter.
    limits: Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_known_limits)] = {}
    #: Metric families that are left out.
    disable: tuple[str, ...] = ()
    #: Labels of taskq_source_annotations_info, for joins: team, tier …
    annotations: dict[LabelName, str] = {}
    #: What part of a queue's tasks should start within which time.
    objectives: Annotated[tuple[ObjectiveConfig, ...], AfterValidator(_one_a_queue), AfterValidator(_few_bounds)] = ()
    #: A queue that is gone is forgotten after this time.
    queue_ttl: Period = 86400.0
    #: A worker that is gone is forgotten after this time.
    worker_ttl: Period = 600.0
    #: A label set of a counter that was not touched for so long is forgotten.
    series_ttl: Period = 86400.0

    def bounds(self) -> Buckets:
        """The bounds of its histograms: an objective that is none could not be measured."""
        wait = {*self.buckets.wait, *(objective.start_within for objective in self.objectives)}
        return Buckets(run=self.buckets.run, wait=tuple(sorted(wait)))

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

    #: The label `source`; each name once.
    name: str = Field(min_length=1, max_length=100)
    #: What queue system it is.
    adapter: str
    #: Where it is, with credentials.
    url: Annotated[str | None, BeforeValidator(_not_empty)] = Field(default=None, repr=False)
    #: A file with the URL, read again at each connect.
    url_file: Annotated[Path | None, BeforeValidator(_not_empty)] = None
    #: The same numbers also under the names of another exporter: docs/compat.md.
    compat: tuple[Annotated[CompatConfig, BeforeValidator(_by_name)], ...] = ()

    @model_validator(mode="after")
    def _one_url(self) -> SourceConfig:
        if self.url is not None and self.url_file is not None:
            raise ValueError("a source has either url or url_file")
        return self


class StateConfig(_Model):
    """Where checkpoints are kept."""

    #: A directory for checkpoints, so that counters go on after a restart.
    dir: Annotated[Path | None, BeforeValidator(_not_empty)] = None
