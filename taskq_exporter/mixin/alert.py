"""What an alert is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert. Its expression keeps the labels that tell sources (and queues, workers …) apart."""

    name: str
    expression: str
    summary: str
    description: str
    wait: str = "5m"
    severity: Literal["critical", "warning"] = "warning"
    #: Which dashboard shows more.
    dashboard: Literal["queue", "tasks", "workers", "source", "exporter"] = "queue"
    #: PromQL of the task to name, with %q for source and queue; "" for none.
    top_task: str = ""
    #: Whether it is said of a source, whose annotations it then carries.
    of_source: bool = True
