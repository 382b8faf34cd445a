"""docs/metrics.md, from the schema."""

from __future__ import annotations

from taskq_exporter.api import DropReason, Outcome, Reason, State, WorkerState
from taskq_exporter.schema import (
    CAPPED_LABELS,
    FAMILIES,
    LABEL_SETS_CAP,
    RUN_BOUNDS,
    SCHEMA_VERSION,
    WAIT_BOUNDS,
    WITH_WORKER,
)

__all__ = ["metrics_page"]

OVERFLOW = {"sum": "adds up", "max": "the maximum", "drop": "left out"}
WORDS = {
    "state of a task": State,
    "state of a worker": WorkerState,
    "outcome": Outcome,
    "reason of an error": Reason,
    "reason of a dropped event": DropReason,
}


def _bounds(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


def metrics_page() -> str:
    """The whole page as markdown."""
    lines = [
        "<!-- Generated from taskq_exporter/schema.py by `make docs`; do not edit. -->",
        f"# Metrics, schema version {SCHEMA_VERSION}",
        "",
        "Every family below has the label `source`. All series of a family have all its labels; a label that is not",
        "known is empty, which Prometheus drops. Absent means not known; 0 means 0. `taskq_source_capability` says",
        "what a source can tell, and why not; [adapters/](adapters/) has a page for each adapter.",
        "",
        "| family | type | labels | meaning | over a cap |",
        "|---|---|---|---|---|",
    ]
    for family in FAMILIES.values():
        labels = [f"`{label}`" for label in family.labels]
        if family.name in WITH_WORKER:
            labels.append("(`worker`)")
        capped = OVERFLOW[family.overflow] if any(label in CAPPED_LABELS for label in family.labels) else ""
        lines.append(f"| `{family.name}` | {family.kind} | {', '.join(labels)} | {family.help} | {capped} |")
    lines += [
        "",
        "`worker` in parentheses: only for sources whose `task_labels` name it.",
        "",
        "## Closed words",
        "",
        *(f"- {what}: {', '.join(f'`{word}`' for word in words)}" for what, words in WORDS.items()),
        "",
        "## Bounds and caps",
        "",
        f"- Run histogram (seconds): {_bounds(RUN_BOUNDS)}; `buckets: {{run: […]}}` sets others.",
        f"- Wait histogram (seconds): {_bounds(WAIT_BOUNDS)}; `buckets: {{wait: […]}}` too.",
        f"- Values of a label in one source: {', '.join(f'{label} {cap:,}' for label, cap in CAPPED_LABELS.items())};"
        f" {LABEL_SETS_CAP:,} label sets of each counter or histogram. `limits:` sets others.",
        "- What is over a cap stands under `_other` where it adds up or has a maximum; each time something is,"
        " `taskq_source_label_overflow_total` counts. Totals that the backend keeps are left out instead: their sum"
        " would go back when one of them goes.",
        "",
        "## The exporter's own",
        "",
        "`taskq_exporter_build_info` (version, schema), `taskq_exporter_adapter_info` (adapter, distribution,",
        "version), `taskq_exporter_config_last_reload_successful`,",
        "`taskq_exporter_config_last_reload_success_timestamp_seconds`,",
        "`taskq_exporter_sources_file_successful` (file; with `sources_dir`),",
        "`taskq_exporter_checkpoint_last_write_successful` (with `state.dir`), `process_*`, `python_gc_*`.",
        "",
    ]
    return "\n".join(lines)
