"""What is folded away below a source's queues: workers, schedulers, what can and cannot be measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from taskq_exporter.schema import FAMILIES
from taskq_exporter.view.overview import CapabilityOverview, SourceOverview, WorkerOverview
from taskq_exporter.view.units import UNKNOWN, count, duration
from taskq_exporter.web.page.markup import Markup, tag
from taskq_exporter.web.page.why import CANNOT

__all__ = ["capabilities", "schedulers", "workers"]

#: Rows of workers on a page, what is down first.
MAX_WORKERS: Final = 100


def workers(source: SourceOverview, now: float) -> Markup:
    """The workers, or how many there are in each state where they have no names."""
    states = ", ".join(f"{count(n)} {state}" for state, n in source.worker_states.items() if n)
    if not source.workers:
        return tag("p", f"Workers: {states}", class_="fold") if states else Markup("")
    down = sum(worker.up is False for worker in source.workers)
    total = source.workers_total or len(source.workers)
    title = f"Workers: {count(total)}" + (f" ({states})" if states else f", {down} down" if down else "")
    heads = ("Worker", "State", "Running", "Reserved", "Slots", "Longest run", "Last heard of", "Software")
    rows = [_worker(worker, now) for worker in source.workers[:MAX_WORKERS]]
    more = total - len(rows)
    note = [tag("p", f"{count(more)} more workers are not shown.", class_="none")] if more > 0 else []
    return _fold(title, _table(heads, rows, "workers"), *note, open_=False)


def _worker(worker: WorkerOverview, now: float) -> Markup:
    up = {True: "up", False: "down", None: UNKNOWN}[worker.up]
    software = " ".join(filter(None, (worker.software, worker.software_version, worker.pool)))
    cells = (
        worker.state or up,
        count(worker.running),
        count(worker.reserved),
        count(worker.slots),
        duration(worker.longest_run),
        _ago(worker.last_heartbeat, now),
        software or UNKNOWN,
    )
    return _row(worker.name, cells, "down" if worker.up is False else None)


def schedulers(source: SourceOverview, now: float) -> Markup:
    """What sends periodic tasks."""
    if not source.schedulers:
        return Markup("")
    down = sum(scheduler.up is False for scheduler in source.schedulers)
    rows = [
        _row(
            scheduler.name,
            (
                {True: "up", False: "down", None: UNKNOWN}[scheduler.up],
                count(scheduler.entries),
                _ago(scheduler.last_beat, now),
            ),
            "down" if scheduler.up is False else None,
        )
        for scheduler in source.schedulers
    ]
    title = f"Schedulers: {len(rows)}" + (f", {down} down" if down else "")
    return _fold(title, _table(("Scheduler", "State", "Entries", "Last heard of"), rows, "schedulers"), open_=down > 0)


def capabilities(source: SourceOverview) -> Markup:
    """What the source can and cannot measure, and why not."""
    if not source.capabilities:
        return Markup("")
    can = [c for c in source.capabilities if c.can]
    cannot = [c for c in source.capabilities if not c.can]
    title = f"What it measures: {len(can)} of {len(source.capabilities)} kinds of numbers"
    parts = []
    if cannot:
        parts += [tag("h3", "Cannot be measured here"), tag("dl", *_described(cannot))]
    parts += [tag("h3", "Measured"), tag("dl", *_described(can))]
    return _fold(title, *parts, open_=False)


def _described(listed: Iterable[CapabilityOverview]) -> Iterator[Markup]:
    """A line for each family, its states together."""
    families: dict[tuple[str, str], list[str]] = {}
    for capability in listed:
        families.setdefault((capability.family, capability.reason), []).append(capability.state)
    for (name, reason), states in families.items():
        known = ", ".join(filter(None, states))
        yield tag("dt", tag("code", name), *([" ", tag("em", known)] if known else []))
        why = [] if reason == "none" else [tag("b", CANNOT.get(reason, reason)), ": "]
        yield tag("dd", *why, FAMILIES[name].help if name in FAMILIES else "of this adapter alone")


def _fold(title: str, *content: str, open_: bool) -> Markup:
    return tag("details", tag("summary", title), *content, open=open_)


def _table(heads: Iterable[str], rows: Iterable[str], kind: str) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", title, scope="col") for title in heads)))
    return tag("table", head, tag("tbody", *rows), class_=kind)


def _row(name: str, cells: Iterable[str], class_: str | None) -> Markup:
    return tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells), class_=class_)


def _ago(at: float | None, now: float) -> str:
    return f"{duration(max(now - at, 0))} ago" if at else UNKNOWN
