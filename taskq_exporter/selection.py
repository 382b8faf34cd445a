"""Which families a page is asked for by name, and what work that leaves to do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from taskq_exporter.schema import FAMILIES

__all__ = ["EVERY_FAMILY", "Selection", "written_as"]

#: What followers count: a page that shows any of it rests on a checkpoint.
COUNTED = frozenset(
    {
        "taskq_source_counting_since_timestamp_seconds",
        "taskq_source_events_total",
        "taskq_source_events_dropped_total",
        "taskq_tasks_enqueued_total",
        "taskq_tasks_received_total",
        "taskq_tasks_started_total",
        "taskq_tasks_finished_total",
        "taskq_tasks_retried_total",
        "taskq_tasks_redelivered_total",
        "taskq_task_exceptions_total",
        "taskq_task_run_duration_seconds",
        "taskq_task_wait_duration_seconds",
        "taskq_workers_started_total",
        "taskq_workers_lost_total",
        "taskq_worker_tasks_finished_total",
        "taskq_worker_busy_seconds_total",
    }
)
#: Those of them that backends keep too, so that a collect tells them.
KEPT_BY_BACKENDS = frozenset(
    {"taskq_tasks_enqueued_total", "taskq_worker_tasks_finished_total", "taskq_worker_busy_seconds_total"}
)
#: What is known without a look at the source.
WITHOUT_COLLECT = (COUNTED - KEPT_BY_BACKENDS) | {
    "taskq_source_annotations_info",
    "taskq_source_follower_up",
    "taskq_source_follower_lag_seconds",
    "taskq_source_follower_restarts_total",
    "taskq_queue_objective_wait_seconds",
    "taskq_queue_objective_ratio",
}
#: They count what else the page has, so that all of it must be made.
OF_THE_WHOLE_PAGE = frozenset({"taskq_source_series", "taskq_source_label_overflow_total"})


@dataclass(frozen=True, slots=True)
class Selection:
    """The families of a page; None: every family."""

    families: frozenset[str] | None = None

    def shows(self, family: str) -> bool:
        """Whether a family stands on the page."""
        return self.families is None or family in self.families

    def names(self, family: str) -> bool:
        """Whether a family was asked for by name."""
        return self.families is not None and family in self.families

    def leaves_out(self, families: Iterable[str]) -> set[str]:
        """Those of `families` that need not be made."""
        if self.families is None or self.families & OF_THE_WHOLE_PAGE:
            return set()
        return {family for family in families if family not in self.families}

    def collects(self, own: Collection[str], disabled: Collection[str]) -> bool:
        """Whether a source has to be looked at, which has these families beside those of the schema."""
        return self.families is None or any(
            name not in WITHOUT_COLLECT and name not in disabled and (name in FAMILIES or name in own)
            for name in self.families
        )

    def counts(self) -> bool:
        """Whether anything that a follower counts is shown."""
        if self.families is None or self.families & (COUNTED | OF_THE_WHOLE_PAGE):
            return True
        # an adapter's own families and those under other names
        others = (name for name in self.families if name not in FAMILIES)
        return any(not name.startswith(("taskq_exporter_", "process_", "python_")) for name in others)


EVERY_FAMILY = Selection()


def written_as(name: str, kind: str) -> Iterable[str]:
    """The names under which a family can be asked for: its own, and those that its samples have on a page."""
    if kind == "counter":
        return name, name.removesuffix("_total")
    if kind == "histogram":
        return name, f"{name}_bucket", f"{name}_count", f"{name}_sum"
    return (name,)
