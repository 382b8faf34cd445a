"""The section of one source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from taskq_exporter.view.overview import QueueOverview, SourceOverview
from taskq_exporter.view.units import count, duration
from taskq_exporter.web.page.details import capabilities, schedulers, workers
from taskq_exporter.web.page.markup import Markup, join, tag
from taskq_exporter.web.page.queues import queue_table
from taskq_exporter.web.page.view import View
from taskq_exporter.web.page.why import ADVICE

__all__ = ["SYMBOLS", "source_id", "source_section"]

#: A state is told by its form too, not by colour alone.
SYMBOLS: Final = {"up": "●", "partial": "◐", "down": "▲", "starting": "○"}


def source_id(source: SourceOverview) -> str:
    """The fragment of the address that leads to the source's section."""
    return f"source-{quote(source.name, safe='', errors='replace')}"


def source_section(
    source: SourceOverview, queues: Sequence[QueueOverview], rows: int, view: View, now: float
) -> Markup:
    """A source with those of its queues that the view wants, `rows` of them at most; `now` is Unix seconds."""
    badge = tag("span", f"{SYMBOLS[source.state]} {source.state}", class_=f"state {source.state}")
    facts = tag("ul", *(tag("li", fact) for fact in _facts(source, now)), class_="facts")
    parts = [tag("h2", source.name, " ", badge), facts, *_messages(source)]
    if queues:
        parts.append(queue_table(source, queues[:rows], view))
    elif source.queues:
        parts.append(tag("p", "No queue has such a name.", class_="none"))
    elif any(c.family == "taskq_tasks" and c.can for c in source.capabilities):  # else it has none to tell of
        parts.append(tag("p", "No queue yet.", class_="none"))
    hidden = len(queues) - rows if len(queues) > rows else 0
    if not view.filter and source.queues_total is not None:
        hidden += source.queues_total - len(source.queues)
    if hidden:
        parts.append(tag("p", f"{count(hidden)} more queues are not shown: filter by name.", class_="none"))
    parts += [workers(source, now), schedulers(source, now), capabilities(source)]
    return tag("section", *parts, id=source_id(source), class_=source.state, aria_label=source.name)


def _facts(source: SourceOverview, now: float) -> Iterator[str]:
    yield source.adapter
    if source.server:
        yield f"{source.server} {source.server_version}".strip()
    took = f" in {duration(source.collect_seconds)}" if source.collect_seconds is not None else ""
    if source.state == "starting":
        yield "waiting for the first answer"
    elif source.last_success is None:
        yield "never read since the exporter started"
    elif source.state == "down":
        yield f"last read {duration(max(now - source.last_success, 0))} ago"
    else:
        age = max(now - source.last_success, 0)
        yield f"read {f'{duration(age)} ago' if age >= 1 else 'just now'}{took}"
    if source.following is not None and source.state in ("up", "partial"):
        behind = f", {duration(source.follower_lag)} behind" if source.follower_lag else ""
        yield f"following{behind}" if source.following else "not following: nothing that happens is counted"
    if (broker := source.broker) is not None:
        if broker.memory_bytes is not None:
            limit = f" of {_bytes(broker.memory_limit_bytes)}" if broker.memory_limit_bytes is not None else ""
            yield f"{_bytes(broker.memory_bytes)}{limit} memory"
        if broker.connections:
            limit = f" of {count(broker.connections_limit)}" if broker.connections_limit is not None else ""
            yield f"{count(sum(broker.connections.values()))}{limit} connections"
    for key, value in source.annotations.items():
        yield f"{key}: {value}"


def _bytes(number: int) -> str:
    size, units = float(number), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.0f} {unit}" if size >= 99.5 or unit == "B" else f"{size:.1f} {unit}"


def _messages(source: SourceOverview) -> Iterator[Markup]:
    """What is wrong, and what to do about it."""
    if source.state == "down":
        reason = source.reason or "unknown"
        yield _message("problem", f"{reason}: {source.message}", ADVICE.get(reason, ""))
    for problem in source.problems:
        text = f"cannot read {problem.part}: {problem.reason.value}: {problem.message}"
        yield _message("problem", text, ADVICE.get(problem.reason, ""))
    for finding in source.findings:
        if finding.level != "ok":
            yield _message(finding.level, finding.text, finding.advice)


def _message(level: str, text: str, advice: str) -> Markup:
    parts = [tag("strong", text), *([" ", tag("span", advice)] if advice else [])]
    return tag("p", join(parts), class_=f"message {level}")
