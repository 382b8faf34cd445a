"""The exporter itself."""

from __future__ import annotations

from taskq_exporter.mixin.dashboards.panels import Dashboard, Panel, Query, Row

__all__ = ["EXPORTER"]

#: The exporters among all that is scraped.
OF_EXPORTER = 'cluster=~"$cluster",namespace=~"$namespace",job=~"$job"'
BUILD = f"taskq_exporter_build_info{{{OF_EXPORTER}}}"
LEGEND = "{{instance}}"
ON = "and on (job, instance)"


def _of_exporter(title: str, description: str, metric: str, unit: str = "short", *, counter: bool = False) -> Panel:
    expression = f"{metric}{{{OF_EXPORTER}}}"
    expression = f"rate({expression}[$__rate_interval])" if counter else expression
    return Panel(title=title, description=description, queries=[Query(f"{expression} {ON} {BUILD}", LEGEND)], unit=unit)


_STATE = Row(
    "State",
    [
        Panel(
            title="Exporters",
            description="Versions of the exporter and of its schema.",
            queries=[Query(BUILD)],
            kind="table",
            width=12,
            columns=("instance", "version", "schema"),
        ),
        Panel(
            title="Adapters",
            description="Those in use.",
            queries=[Query(f"taskq_exporter_adapter_info{{{OF_EXPORTER}}}")],
            kind="table",
            width=12,
            columns=("instance", "adapter", "distribution", "version"),
        ),
        _of_exporter("Scrape", "How long Prometheus waits for the page.", "scrape_duration_seconds", "s"),
        _of_exporter("Samples", "On the page.", "scrape_samples_scraped"),
        _of_exporter(
            "Configuration",
            "1 where it was last read without a mistake.",
            "taskq_exporter_config_last_reload_successful",
        ),
    ],
)
_PROCESS = Row(
    "Process",
    [
        _of_exporter("CPU", "Cores that it uses.", "process_cpu_seconds_total", counter=True),
        _of_exporter("Memory", "Resident.", "process_resident_memory_bytes", "bytes"),
        _of_exporter("Open files", "Connections, too.", "process_open_fds"),
    ],
)

EXPORTER = Dashboard(
    uid="taskq-exporter",
    title="Exporter",
    description="The exporter itself: versions, scrapes, process.",
    rows=[_STATE, _PROCESS],
    variables=("cluster", "namespace", "job"),
)
