"""What `check` says of each source, as data: what was found, what cannot be read or told and why, what series it costs.

A Checkup is a SourceOverview with more; its JSON, from GET /api/check and from `check --format json`, is stable:

    {"version": "0.1.0", "healthy": false, "sources": [{
        "name": "shop", "adapter": "celery", "state": "partial", "server": "redis", "server_version": "7.0.15",
        "queues": […], "workers": […], …                               as in GET /api/sources
        "healthy": false,                                              up, and nothing below is a problem
        "where": "/etc/taskq.yaml:4:10",
        "commands": 41,                                                sent since the exporter watches the source
        "findings": [{"level": "ok" | "note" | "problem", "text": "…", "advice": "…"}],
        "capabilities": [{"family": "taskq_tasks", "state": "ready", "can": true, "reason": "none", "advice": ""}],
        "grants": "ACL SETUSER …",                                     where a right is missing; else ""
        "series": 1893,
        "labels": [{"label": "task", "series": 1240, "without": 85, "advice": "…"}],
        "families": [{"family": "taskq_task_run_duration_seconds", "series": 900}],
        "compat": [{"mapping": "flower", "series": 120,
            "more": {"task, worker": 24, "task": 1},                    what each new task and worker of it brings
            "not_known": {"flower_task_prefetch_time_seconds": "…"}}]}]}
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from taskq_exporter import __version__
from taskq_exporter.api import AdapterError, Finding, Reason
from taskq_exporter.collector import SnapshotCollector
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.log import redact
from taskq_exporter.report import SourceReport
from taskq_exporter.runtime.threads import in_thread
from taskq_exporter.scrape import SourceRunner
from taskq_exporter.view.overview import CapabilityOverview, SourceOverview
from taskq_exporter.view.status import known_overview

__all__ = ["Checkup", "CompatCost", "FamilyCost", "LabelCost", "Report", "as_json", "examine", "from_json", "only"]

#: Seconds that an adapter's diagnose() may take: it listens for a moment.
PATIENCE = 20.0

#: What to do about a label that costs too much.
_CHEAPER = {
    "task": "task_labels: [queue]",
    "worker": "limits: {worker: N}, and task_labels without worker",
    "le": "fewer bounds in buckets: {run: [...], wait: [...]}",
    "exception": "disable: [taskq_task_exceptions_total]",
    "priority": "disable: [taskq_tasks_by_priority]",
    "queue": "queues: {exclude: [...]}, or limits: {queue: N}",
    "entry": "limits: {entry: N}",
    "command": "disable: [taskq_broker_commands_total]",
    "family": "disable: [taskq_source_capability]",
}
#: What to do about what cannot be told, where the adapter says no more.
_ADVICE = {
    "version": "a newer version of the queue system or of its server tells it",
    "permission": "give the rights that `taskq-exporter grants` prints",
    "option": "an option of the source, or of the application, switches it on: see the adapter's page",
    "backend": "the queue system does not tell it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCost:
    """How many series have a label, how many of them would be left without it, and how to save them."""

    label: str
    series: int
    without: int
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCost:
    """Series of one family."""

    family: str
    series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatCost:
    """Series under another exporter's names, what tasks bring, and what of it is not known here, by name and why."""

    mapping: str
    series: int
    more: Mapping[str, int] = field(default_factory=dict)  # by labels: how many each new combination of values brings
    not_known: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup(SourceOverview):
    """One source."""

    healthy: bool = False  # up, and there is no problem among findings and unreadable parts
    where: str = ""  # FILE:LINE:COLUMN of its URL
    commands: int = 0
    grants: str = ""  # the rights that its user needs, where one is missing
    series: int = 0
    labels: tuple[LabelCost, ...] = ()  # the dearest first
    families: tuple[FamilyCost, ...] = ()  # the dearest first
    compat: tuple[CompatCost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All sources that were looked at."""

    version: str = __version__
    healthy: bool = False
    sources: tuple[Checkup, ...] = field(default=())


_REPORT = TypeAdapter(Report)


def as_json(report: Report) -> Any:
    """What JSON can hold of it; see above."""
    return _REPORT.dump_python(report, mode="json")


def from_json(document: Any) -> Report:
    """What as_json() gave, perhaps of another version. Raises ValueError."""
    try:
        return _REPORT.validate_python(document)
    except ValidationError:
        raise ValueError("not what GET /api/check of a taskq-exporter says") from None


def only(report: Report, names: Collection[str]) -> Report:
    """Of some sources."""
    sources = tuple(source for source in report.sources if source.name in names)
    return replace(report, sources=sources, healthy=all(source.healthy for source in sources))


async def examine(
    exporter: Exporter,
    runners: Sequence[SourceRunner] | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Report:
    """Look at the sources (all, or those given), ask their adapters what is wrong, and count what they cost.

    Args:
        exporter: Whose sources.
        runners: Which of them.
        progress: Told what is being done.
    """
    runners = list(exporter.runners.values()) if runners is None else runners
    progress(f"collecting {', '.join(runner.name for runner in runners)}")
    reports = await exporter.gather(runners=runners)
    waiting = {runner.name: None for runner in runners}

    async def one(runner: SourceRunner, report: SourceReport) -> Checkup:
        checkup = await _checkup(runner, report)
        del waiting[runner.name]
        if waiting:
            progress(f"examining {', '.join(waiting)}")
        return checkup

    progress(f"examining {', '.join(waiting)}")
    checkups = await asyncio.gather(*(one(r, report) for r, report in zip(runners, reports, strict=True)))
    return Report(healthy=all(checkup.healthy for checkup in checkups), sources=tuple(checkups))


async def _checkup(runner: SourceRunner, report: SourceReport) -> Checkup:
    seen = known_overview(runner)
    core = [*_of_follower(runner, report), *_of_objectives(runner, report)]
    found = [*core, *(await _diagnosis(runner))] if report.up else []
    told = {text for p in seen.problems for text in (p.message, f"{p.part}: {p.message}")}  # adapters repeat them
    findings = tuple(finding for finding in dict.fromkeys((*found, *seen.findings)) if finding.text not in told)
    capabilities = tuple(_advised(capability) for capability in seen.capabilities)
    lacks_right = any(p.reason is Reason.PERMISSION for p in seen.problems) or any(
        c.reason == "permission" for c in capabilities
    )
    series, labels, families = await in_thread(lambda: _cost(report))
    overview = {f.name: getattr(seen, f.name) for f in fields(SourceOverview)}
    return Checkup(
        **{**overview, "findings": findings, "capabilities": capabilities},
        healthy=report.up and not seen.problems and all(finding.level != "problem" for finding in findings),
        where=runner.configured.where,
        commands=report.commands,
        grants=_grants(runner) if lacks_right or seen.reason == Reason.PERMISSION else "",
        series=series,
        labels=labels,
        families=families,
        compat=_compat(runner.configured, report, families),
    )


def _of_follower(runner: SourceRunner, report: SourceReport) -> list[Finding]:
    """That it does not follow, and why."""
    if report.follower_up is not False:
        return []
    if not runner.follower.stopped:
        return [Finding(level="note", text="what happens is not followed yet", advice="look again in some seconds")]
    return [Finding(level="problem", text=f"what happens is not followed: {redact(runner.follower.stopped)}")]


def _of_objectives(runner: SourceRunner, report: SourceReport) -> list[Finding]:
    """That nothing measures whether they are kept."""
    family = "taskq_task_wait_duration_seconds"
    told = [c for c in report.snapshot.capabilities if c.family == family] if report.snapshot else []
    able = family not in report.disabled and all(c.able for c in told)
    if not report.objectives or (able and "queue" in runner.configured.config.task_labels):
        return []
    text = f"objectives are watched by the age of the oldest task alone: no {family} by queue is shown"
    return [Finding(level="note", text=text, advice="have it told, for alerts of burn rates")]


async def _diagnosis(runner: SourceRunner) -> list[Finding]:
    """What the adapter finds; that it cannot look is a finding too."""
    try:
        async with asyncio.timeout(max(PATIENCE, runner.source.timeout)):
            found = await runner.adapter.diagnose(runner.source, await runner.client())
    except AdapterError as error:
        found = [Finding(level="problem", text=f"cannot be examined: {error.reason.value}: {error}")]
    except TimeoutError:
        found = [Finding(level="problem", text="cannot be examined: the server does not answer in time")]
    except Exception as error:  # noqa: BLE001 - the adapter's code
        found = [Finding(level="problem", text=runner.bug(error, "diagnose"))]
    return [replace(finding, text=redact(finding.text), advice=redact(finding.advice)) for finding in found]


def _advised(capability: CapabilityOverview) -> CapabilityOverview:
    if capability.can or capability.advice:
        return capability
    return replace(capability, advice=_ADVICE.get(capability.reason, ""))


def _grants(runner: SourceRunner) -> str:
    try:
        return redact((runner.adapter.grants(runner.source) or "").strip())
    except AdapterError:
        return ""


def _compat(source: ConfiguredSource, report: SourceReport, families: Sequence[FamilyCost]) -> tuple[CompatCost, ...]:
    if not report.mapped:
        return ()
    from taskq_exporter.compat.mapping import growth, load, mapped_families

    of = {family.name: family.mapping for family in report.mapped}
    return tuple(
        CompatCost(
            mapping=entry.mapping,
            series=sum(cost.series for cost in families if of.get(cost.family) == entry.mapping),
            more={", ".join(by): n for by, n in growth(mapped_families([entry], source.options)).items()},
            not_known={lacking.name: lacking.why for lacking in load(entry.mapping).not_known},
        )
        for entry in source.config.compat
    )


def _cost(report: SourceReport) -> tuple[int, tuple[LabelCost, ...], tuple[FamilyCost, ...]]:
    """Series of a source: all, by label and by family."""
    total = 0
    having: Counter[str] = Counter()
    without: Counter[str] = Counter()
    families = []
    for metric in SnapshotCollector([report]).collect():
        samples = metric.samples
        total += len(samples)
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        families.append(FamilyCost(family=name, series=len(samples)))
        for label in dict.fromkeys(key for sample in samples for key in sample.labels if key != "source"):
            with_it = [sample for sample in samples if sample.labels.get(label)]
            rest = {(s.name, *(v for k, v in s.labels.items() if k != label)) for s in with_it}
            having[label] += len(with_it)
            without[label] += len(rest)
    labels = [
        LabelCost(label=label, series=n, without=without[label], advice=_CHEAPER.get(label, ""))
        for label, n in having.items()
        if n > without[label]
    ]
    labels.sort(key=lambda cost: cost.without - cost.series)
    families.sort(key=lambda cost: -cost.series)
    return total, tuple(labels), tuple(families)
