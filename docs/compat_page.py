"""docs/compat.md, from the mappings."""

from __future__ import annotations

from collections.abc import Iterator

from described import table

from taskq_exporter.compat.mapping import CompatMapping, MappedLabel, Rule, load, mapping_names
from taskq_exporter.mixin.guide import NOT_KNOWN, guide_records

__all__ = ["compat_page"]

_HEAD = """\
<!-- Generated from the mappings by `make docs`; do not edit. -->
# Names of other exporters

With `compat:` a source shows the same numbers also under the names and labels that your dashboards and alerts have:

```yaml
sources:
  - name: shop
    adapter: celery
    url: redis://broker:6379/0
    compat: [celery-exporter, flower]
```

Each series also has the label `source`. Counters and histograms are counted for themselves, with labels and bounds of
their own, from when the mapping is switched on: they never go back because one of ours expires. `task_labels` and
`buckets` of the source stay as they are ([ADR 011](adr/011-mappings-count-for-themselves.md)). `taskq-exporter check`
says how many series a mapping has, and how many more each new task brings. Filters, limits and `series_ttl` of the
source hold for it too. `disable` takes their names as well; a gauge whose family of ours is in it is gone too. With
another `compat:` all counters of the source begin at 0, now.

How you had set up the other exporter goes into an entry of its own form:

```yaml
sources:
  - name: shop
    adapter: celery
    url: redis://broker:6379/0
    compat:
      - mapping: celery-exporter
        prefix: jobs_ # instead of celery_
        labels: {env: prod} # further labels of every series
        fixed: {hostname: generic} # one value in all counters and histograms: fewer series
        default: {queue_name: unknown} # where it is not known
        buckets: {celery_task_runtime: [0.1, 1, 10, 60]} # by the name in the mapping
```

Two mappings that give one name two meanings cannot stand on one page, unless one of them has another prefix: the
configuration is refused, with the line. What a mapping lacks stands below it.

What changes beside the names, coming from [celery-exporter](migration-celery-exporter.md),
[Flower](migration-flower.md), [rq-exporter](migration-rq-exporter.md), or [redis_exporter's key checks and SQL of your
own](migration-keys-and-queries.md).
"""


def compat_page() -> str:
    """The whole page as markdown."""
    lines = [*_HEAD.splitlines(), ""]
    for name in mapping_names():
        lines += _mapping(name, load(name))
    return "\n".join([*lines, *_guide(), ""])


def _mapping(name: str, mapping: CompatMapping) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"For {mapping.about}, from sources of {' and '.join(f'`{adapter}`' for adapter in mapping.adapters)}."
    rows = []
    for family in mapping.families:
        labels = dict.fromkeys(label for rule in family.rules for label in {**family.labels, **rule.labels})
        of = "; ".join(dict.fromkeys(_source(rule) for rule in family.rules))
        bounds = f"; bounds {', '.join(f'{bound:g}' for bound in family.buckets)}" if family.buckets else ""
        rows.append((f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in labels), f"{of}{bounds}"))
    yield from table(("name", "type", "labels", "from"), rows)
    yield ""
    told: dict[str, dict[str, None]] = {}
    for family in mapping.families:
        for rule in family.rules:
            for label, from_ in {**family.labels, **rule.labels}.items():
                told.setdefault(label, {})[_label(from_)] = None
    yield "Labels:"
    yield ""
    yield from (f"- `{label}`: {'; or '.join(texts)}" for label, texts in told.items())
    yield ""
    if mapping.not_known:
        yield "Not as there:"
        yield ""
        yield from (f"- {lacking.name}: {lacking.why}" for lacking in mapping.not_known)
        yield ""
    if mapping.shown:
        yield f"What was compared: {mapping.shown}"
        yield ""


def _source(rule: Rule) -> str:
    where = ", ".join(f"{label} {' or '.join(values)}" for label, values in rule.where.items())
    return f"`{rule.family}`{f' with {where}' if where else ''}"


def _label(label: MappedLabel) -> str:
    if label.option:
        return f"the source's option `{label.option}`"
    if not label.of:
        return f"`{label.value}`" if label.value else "empty"
    told = f"the host of our `{label.of}`" if label.part else f"our `{label.of}`"
    if label.values:
        told += f" as {', '.join(dict.fromkeys(label.values.values()))}"
    return f"{told}{f', `{label.default}` where it is not known' if label.default else ''}"


def _guide() -> Iterator[str]:
    yield "## Names with a colon"
    yield ""
    yield "They are names of recording rules, which no exporter exposes. `taskq-exporter mixin --dir=DIR` writes those"
    yield "of the guide to a task queue on FastAPI, Postgres and Redis into `taskq-guide-rules.yaml`; load"
    yield "`recording-rules.yaml` too. Rates are a minute, percentages of 100. `system:` needs a source of `host`."
    yield ""
    yield from (f"- `{record.name}`" for record in guide_records())
    yield ""
    yield "Not as there:"
    yield ""
    yield from (f"- `{name}`: {why}" for name, why in NOT_KNOWN.items())
