"""The exporter's page as a short table of the queues."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

#: Column -> family and the one label value that it shows. The table fits into 80 columns.
COLUMNS = {
    "ready": ("taskq_tasks", "state", "ready"),
    "scheduled": ("taskq_tasks", "state", "scheduled"),
    "running": ("taskq_tasks", "state", "running"),
    "oldest": ("taskq_oldest_task_age_seconds", "state", "ready"),
    "done": ("taskq_tasks_finished_total", "outcome", "succeeded"),
    "failed": ("taskq_tasks_finished_total", "outcome", "failed"),
    "retried": ("taskq_tasks_retried_total", "", ""),
}
#: Without the proxies of the environment: the page is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Rows = dict[tuple[str, str], dict[str, float]]


def fetch(url: str) -> str:
    """The exporter's page, "" where it does not answer (yet)."""
    try:
        with _OPENER.open(url, timeout=10) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def rows(page: str) -> Rows:
    """Values by (source, queue) and column. A column that is not known of a queue is absent."""
    found: Rows = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for column, (name, label, value) in COLUMNS.items():
                if sample.name == name and (not label or sample.labels.get(label) == value):
                    found[sample.labels["source"], sample.labels["queue"]][column] += sample.value
    return found


def follows(page: str, sources: Iterable[str]) -> bool:
    """Whether the exporter follows what happens in each source."""
    up = {
        sample.labels["source"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "taskq_source_follower_up" and sample.value == 1
    }
    return up.issuperset(sources)


def has_run(page: str, sources: Iterable[str]) -> bool:
    """Whether tasks of each source have succeeded and failed, and their queues are known."""
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (source, _), columns in rows(page).items():
        for column, value in columns.items():
            totals[source][column] += value
    return all(
        "ready" in totals[source] and totals[source]["done"] > 0 and totals[source]["failed"] > 0 for source in sources
    )


def render(found: Rows) -> list[str]:
    """The lines of the table."""
    lines = [["source", "queue", *COLUMNS]]
    for (source, queue), columns in sorted(found.items()):
        cells = [f"{columns[c]:.0f}{'s' if c == 'oldest' else ''}" if c in columns else "-" for c in COLUMNS]
        lines.append([source, queue or "(unknown)", *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return ["  ".join(cells) for cells in aligned]
