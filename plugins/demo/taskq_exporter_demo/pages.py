"""What the exporter says, read as its users read it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

#: Without the proxies of the environment: the page is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str) -> str:
    """What the exporter says there, "" where it does not answer (yet)."""
    try:
        with _OPENER.open(url, timeout=10) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def follows(page: str, sources: Iterable[str]) -> bool:
    """Whether the exporter follows what happens in each source."""
    return _having(page, "taskq_source_follower_up").issuperset(sources)


def has_run(page: str, sources: Iterable[str]) -> bool:
    """Whether tasks of each source have succeeded and failed, and their queues are known."""
    finished = "taskq_tasks_finished_total"
    having = _having(page, finished, outcome="succeeded") & _having(page, finished, outcome="failed")
    return (having & _having(page, "taskq_tasks", above=-1, state="ready")).issuperset(sources)


def _having(page: str, name: str, above: float = 0, **labels: str) -> set[str]:
    """The sources that have such a sample above a value."""
    return {
        sample.labels["source"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and sample.value > above and labels.items() <= sample.labels.items()
    }
