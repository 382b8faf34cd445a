"""Mappings from the uniform schema to other names: a YAML file each, adapted to what a source asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from taskq_exporter.api import Family
from taskq_exporter.config.settings import CompatConfig

__all__ = [
    "CompatMapping",
    "MappedFamily",
    "MappedLabel",
    "Rule",
    "conflict",
    "growth",
    "load",
    "mapped_families",
    "mapping_names",
]

_HERE = Path(__file__).parent


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MappedLabel(_Model):
    """Where the value of one of their labels comes from."""

    #: One of our labels; of what is counted also task, worker and exception where the uniform family has them not.
    of: str = ""
    #: The same for every series.
    value: str = ""
    #: An option of the source.
    option: str = ""
    #: `host`: of the name of a worker only what stands behind its @.
    part: Literal["", "host"] = ""
    #: Their words for our values.
    values: dict[str, str] = {}
    #: Where ours is not known.
    default: str = ""

    def read(self, facts: Mapping[str, str]) -> str:
        """The value that stands beside these values of ours."""
        value = facts.get(self.of, "") if self.of else self.value
        if self.part:
            value = value.rpartition("@")[2]
        return self.values.get(value, value) or self.default


def _spelled_out(labels: Any) -> Any:
    """`name: task` is short for `name: {of: task}`."""
    if not isinstance(labels, dict):
        return labels
    return {name: {"of": label} if isinstance(label, str) else label for name, label in labels.items()}


Labels = Annotated[dict[str, MappedLabel], BeforeValidator(_spelled_out)]


class Rule(_Model):
    """What of a family of ours goes into one of theirs."""

    family: str
    where: dict[str, tuple[str, ...]] = {}
    labels: Labels = {}

    def read(self, facts: Mapping[str, str]) -> tuple[str, ...] | None:
        """Their label values; None where the rule is not about these values of ours."""
        for label, wanted in self.where.items():
            if facts.get(label, "") not in wanted:
                return None
        return tuple(label.read(facts) for label in self.labels.values())


class _Theirs(_Model):
    """One family of theirs, as the file has it."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    #: Upper bounds in seconds.
    buckets: tuple[float, ...] = ()
    #: What several gauges of ours come to that are one of theirs.
    merge: Literal["sum", "max"] = "sum"
    #: Stands at 0 for a task and its worker as soon as anything of it is told.
    starts_at_zero: bool = False
    #: Those that all rules have.
    labels: Labels = {}
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, alias="from")]


class NotKnown(_Model):
    """What the other exporter shows and we do not, and why."""

    name: str
    why: str


class CompatMapping(_Model):
    """One file."""

    #: What it stands in for.
    about: str
    #: The adapters whose sources tell what it needs.
    adapters: tuple[str, ...]
    #: How all names begin.
    prefix: str = ""
    families: tuple[_Theirs, ...]
    not_known: tuple[NotKnown, ...] = ()
    #: What it was held against, and how.
    shown: str = ""


@dataclass(frozen=True, slots=True)
class MappedFamily:
    """One family of theirs, for one source."""

    mapping: str
    family: Family  # as it stands on the page; without `source`
    rules: tuple[Rule, ...]
    merge: str
    starts_at_zero: bool

    @property
    def name(self) -> str:
        """Its name on the page."""
        return self.family.name

    @property
    def buckets(self) -> tuple[float, ...]:
        """Upper bounds in seconds, where it is a histogram."""
        return self.family.buckets

    @property
    def shape(self) -> tuple[str, frozenset[str]]:
        """What all sources on a page must have in common: its kind and its labels."""
        return self.family.kind, frozenset(self.family.labels)


@cache
def mapping_names() -> tuple[str, ...]:
    """The names of all mappings."""
    return tuple(sorted(file.stem for file in _HERE.glob("*.yaml")))


@cache
def load(name: str) -> CompatMapping:
    """The mapping of that name, which must be one of mapping_names()."""
    return CompatMapping.model_validate(yaml.safe_load((_HERE / f"{name}.yaml").read_text("utf-8")))


def mapped_families(compat: Iterable[CompatConfig], options: object) -> tuple[MappedFamily, ...]:
    """The families that a source with these options shows beside its own; of two mappings that agree, one."""
    found: dict[str, MappedFamily] = {}
    for config in compat:
        mapping = load(config.mapping)
        for theirs in mapping.families:
            family = _adapted(mapping, theirs, config, options)
            found.setdefault(family.name, family)
    return tuple(found.values())


def conflict(families: Sequence[MappedFamily], others: Iterable[MappedFamily], *, same_source: bool) -> str:
    """What two lots of families of one page cannot agree on, or "".

    Those of one source must mean the same by one name; those of two only have the same kind and labels.
    """
    by_name = {family.name: family for family in families}
    for other in others:
        mine = by_name.get(other.name)
        if mine is None:
            continue
        same = mine.rules == other.rules and mine.buckets == other.buckets
        if mine.shape != other.shape or (same_source and not same):
            both = " and ".join(
                f"{one.family.kind} {{{', '.join(one.family.labels)}}} in {one.mapping}" for one in (mine, other)
            )
            return f"{other.name} is two things: {both}; give one of them another prefix"
    return ""


def growth(families: Iterable[MappedFamily]) -> dict[tuple[str, ...], int]:
    """How many series of counters and histograms each new combination of these labels of theirs brings; most first."""
    found: Counter[tuple[str, ...]] = Counter()
    for family in families:
        if family.family.kind == "gauge":
            continue
        each = len(family.buckets) + 3 if family.buckets else 1  # +Inf, the sum and the count
        for told in {tuple((name, label.of, label.value) for name, label in r.labels.items()) for r in family.rules}:
            found[tuple(name for name, of, _ in told if of)] += each
    return dict(found.most_common())


def _adapted(mapping: CompatMapping, theirs: _Theirs, config: CompatConfig, options: object) -> MappedFamily:
    name = theirs.name
    if config.prefix is not None:
        name = config.prefix + name.removeprefix(mapping.prefix)
    counted = theirs.kind != "gauge"
    extra = {label: MappedLabel(value=value) for label, value in config.labels.items()}
    fixed = {label: MappedLabel(value=value) for label, value in config.fixed.items()} if counted else {}

    def adapt(label_name: str, label: MappedLabel) -> MappedLabel:
        if label_name in fixed:
            return fixed[label_name]
        if label.option:
            return MappedLabel(value=str(getattr(options, label.option, "")))
        if label.of and label_name in config.default:
            return label.model_copy(update={"default": config.default[label_name]})
        return label

    rules = []
    for rule in theirs.rules:
        labels = {**theirs.labels, **rule.labels}
        labels = {label: adapt(label, labels[label]) for label in sorted(labels)} | extra
        rules.append(rule.model_copy(update={"labels": labels}))
    return MappedFamily(
        mapping=config.mapping,
        family=Family(
            name=name,
            kind=theirs.kind,
            help=theirs.help,
            labels=tuple(rules[0].labels),
            buckets=tuple(config.buckets.get(theirs.name, theirs.buckets)),
        ),
        rules=tuple(rules),
        merge=theirs.merge,
        starts_at_zero=theirs.starts_at_zero,
    )
