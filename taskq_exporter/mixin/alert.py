"""What an alert is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["OF_QUEUE", "Alert", "asked"]

#: The queue of an alert in the queries of its annotations: asked() fills its labels in.
OF_QUEUE = "cluster=%[1]q,namespace=%[2]q,job=%[3]q,source=%[4]q,queue=%[5]q"


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
    #: PromQL of the task to name, with OF_QUEUE in its selectors; "" for none.
    top_task: str = ""
    #: Whether it is said of a source, whose annotations it then carries.
    of_source: bool = True


def asked(query: str, answer: str) -> str:
    """A template that says `answer`, itself one of `. | first`, where a query with OF_QUEUE finds something."""
    escaped = query.replace('"', '\\"')
    labels = " ".join(f"$labels.{name}" for name in ("cluster", "namespace", "job", "source", "queue"))
    return f'{{{{ with printf "{escaped}" {labels} | query }}}}{answer}{{{{ end }}}}'
