"""docs/adapters/NAME.md for each adapter: its options, what it can tell, and its own families."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from described import options, table
from prometheus_client.parser import text_string_to_metric_families

from taskq_exporter.adapters import Adapter

__all__ = ["adapter_page"]

ROOT = Path(__file__).parents[1]
HOOKS = {
    "follow": "feeds counters and histograms between scrapes",
    "detect": "is found by the environment, without a configuration file",
    "diagnose": "gives advice in `taskq-exporter check`",
    "grants": "says what rights its user needs in `taskq-exporter grants`",
}
WHY = {
    "version": "the server is too old",
    "permission": "a right is missing",
    "option": "an option or setting is off",
    "backend": "the queue system does not tell",
}


def adapter_page(adapter: Adapter) -> str:
    """The page of one adapter as markdown."""
    model = adapter.options
    folder = ROOT / "plugins" / adapter.name
    lines = [
        "<!-- Generated from the adapter by `make docs`; do not edit. -->",
        f"# Adapter `{adapter.name}`",
        "",
        f"How it reads, what that costs, and what to know: [its README](../../plugins/{adapter.name}/README.md).",
        "",
        *(f"- It {text}." for hook, text in HOOKS.items() if adapter.has(hook)),
    ]
    if model.schemes:
        lines.append(f"- `url` begins with {', '.join(f'`{scheme}://`' for scheme in model.schemes)}.")
    for plural, singular in model.expands.items():
        lines.append(f"- `{plural}: [a, b]` makes the sources NAME/a and NAME/b, each with its `{singular}`.")
    for option, value in model.core_defaults.items():
        lines.append(f"- Core option `{option}` is {value!r} where the configuration does not say otherwise.")
    rows = [(f"`{o.name}`", o.kind, o.default, o.text) for o in options(model)]
    lines += ["", "## Options", "", "They stand beside [the core's](../configuration.md)."]
    lines += table(("option", "value", "default", "meaning"), rows) if rows else ["It has none of its own."]
    lines += _capabilities(sorted((folder / "tests").glob("golden*.prom")))
    if adapter.families:
        lines += ["", "## Families of its own"]
        own = [
            (f"`{f.name}`", f.kind, ", ".join(f"`{x}`" for x in f.labels), f.help) for f in adapter.families.values()
        ]
        lines += table(("family", "type", "labels beside `source`", "meaning"), own)
    return "\n".join([*lines, ""])


def _capabilities(pages: list[Path]) -> list[str]:
    """What the pages of the conformance tests say by taskq_source_capability."""
    told: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for page in pages:
        lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("taskq_source_capability{")]
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            for sample in family.samples:
                labels = sample.labels
                why = "yes" if sample.value else f"no: {WHY.get(labels['reason'], labels['reason'])}"
                states = told[labels["family"]][why]
                if labels["state"] and labels["state"] not in states:
                    states.append(labels["state"])
    if not told:
        return []
    rows = [(f"`{name}`", ", ".join(states), can) for name, ways in told.items() for can, states in ways.items()]
    return [
        "",
        "## What it can tell",
        "",
        "As its conformance tests see it, with a user that has the rights that `grants` prints. Two rows of one family",
        "and state: it depends on server and settings. `taskq_source_capability` says it of yours.",
        *table(("family", "states", "told"), rows),
    ]
