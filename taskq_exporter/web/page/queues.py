"""The table of a source's queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from taskq_exporter.view.overview import STUCK_TEXT, QueueOverview, SourceOverview
from taskq_exporter.view.units import AT_LEAST, UNKNOWN, count, duration, rate
from taskq_exporter.web.page.markup import Markup, join, tag
from taskq_exporter.web.page.sparkline import sparkline
from taskq_exporter.web.page.view import View
from taskq_exporter.web.page.why import why_unknown

__all__ = ["queue_table"]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of numbers: the first part is shown even where it is 0, the others only where there is something."""

    key: str
    title: str
    family: str
    parts: tuple[tuple[str, Callable[[QueueOverview], float | None]], ...]  # (label, value)
    text: Callable[[float | None], str] = count
    states: tuple[str, ...] = ("",)
    help: str = ""

    def value(self, queue: QueueOverview) -> float | None:
        """What the column is sorted by: the first part that is known."""
        return next((n for _, part in self.parts if (n := part(queue)) is not None), None)

    def cell(self, queue: QueueOverview, why: str) -> Markup:
        """The number, or a dash that says why there is none."""
        (label, first), *others = self.parts
        number = first(queue)
        more = [self._small(queue, n, label) for label, part in others if (n := part(queue))]
        if number is None:
            return tag("td", join(more or [UNKNOWN], " "), title=why)
        exact = f"{number:,.0f}" if self.text is count and number >= 10_000 else None
        if (at_least := self._at_least(queue, label)) and self.text is count:
            exact = f"at least {number:,.0f}: the count stopped at a limit"
        elif at_least:
            exact = "it may be older: nothing tells when it was sent"
        words = [f"{at_least}{self.text(number)}", *more]
        return tag("td", join(words, " "), title=exact, class_=None if number else "zero")

    def _small(self, queue: QueueOverview, number: float, label: str) -> Markup:
        text = f"{self._at_least(queue, label)}{self.text(number)}"
        return tag("small", f"{text} {label.removesuffix('s') if number == 1 else label}")

    def _at_least(self, queue: QueueOverview, label: str) -> str:
        if self.key == "oldest":
            return AT_LEAST if queue.oldest_is_bound else ""
        return AT_LEAST if self.family == "taskq_tasks" and label in queue.capped else ""


def _tasks(key: str, title: str, *states: str) -> _Column:
    def of(state: str) -> Callable[[QueueOverview], float | None]:
        return lambda queue: queue.tasks.get(state)

    parts = tuple((state, of(state)) for state in states)
    return _Column(key, title, "taskq_tasks", parts, states=states)


COLUMNS: Final = (
    _tasks("ready", "Ready", "ready", "blocked"),
    _tasks("running", "Running", "running", "reserved"),
    _tasks("scheduled", "Scheduled", "scheduled", "retry"),
    _tasks("failed", "Failed", "failed", "dead", "lost"),
    _Column(
        "oldest",
        "Oldest ready",
        "taskq_oldest_task_age_seconds",
        parts=(("", lambda queue: queue.oldest_ready),),
        text=duration,
        states=("ready",),
        help="since the oldest ready task could have run",
    ),
    _Column(
        "longest",
        "Longest run",
        "taskq_oldest_task_age_seconds",
        parts=(("", lambda queue: queue.longest_run),),
        text=duration,
        states=("running",),
        help="of the tasks that run now",
    ),
    _Column(
        "consumers",
        "Consumers",
        "taskq_queue_consumers",
        parts=(("", lambda queue: queue.consumers), ("slots", lambda queue: queue.slots)),
        help="workers that read the queue",
    ),
    _Column(
        "rate",
        "Finished",
        "taskq_tasks_finished_total",
        parts=(("", lambda queue: queue.finished_per_second), ("failed", lambda queue: queue.failed_per_second)),
        text=rate,
        help="over the last minutes",
    ),
)


def queue_table(source: SourceOverview, queues: Sequence[QueueOverview], view: View) -> Markup:
    """The queues, what is stuck first unless the view is sorted."""
    whys = [_why(source, column) for column in COLUMNS]
    heads = [_head(view, "queue", "Queue"), *(_head(view, c.key, c.title, c.help) for c in COLUMNS)]
    heads.append(tag("th", "Last minutes", scope="col", title="ready tasks"))
    rows = join(_row(queue, whys) for queue in sort(queues, view))
    head = tag("thead", tag("tr", *heads))
    return tag("table", head, tag("tbody", rows), class_="queues", aria_label=f"Queues of {source.name}")


def sort(queues: Iterable[QueueOverview], view: View) -> list[QueueOverview]:
    """By the view's column, the largest first and unknown last; as they come where the view has none."""
    if view.sort == "queue":
        return sorted(queues, key=lambda queue: queue.name, reverse=view.reverse)
    column = next((column for column in COLUMNS if column.key == view.sort), None)
    if column is None:
        return list(queues)
    known = [(n, queue) for queue in queues if (n := column.value(queue)) is not None]
    unknown = [queue for queue in queues if column.value(queue) is None]
    return [queue for _, queue in sorted(known, key=lambda pair: pair[0], reverse=not view.reverse)] + unknown


def _head(view: View, key: str, title: str, help_: str = "") -> Markup:
    downwards = view.reverse if key == "queue" else not view.reverse
    sorted_ = ("descending" if downwards else "ascending") if view.sort == key else None
    link = tag("a", title, href=view.link(key))
    return tag("th", link, scope="col", aria_sort=sorted_, title=help_ or None)


def _why(source: SourceOverview, column: _Column) -> str:
    if column.key == "rate" and source.following is not None:
        return "known after two looks" if source.following else "the exporter is not following the source's events"
    return why_unknown(source, column.family, column.states)


def _row(queue: QueueOverview, whys: Sequence[str]) -> Markup:
    marks = [_mark(queue)] if queue.stuck else []
    if queue.paused and queue.stuck != "paused":
        marks.append("paused")
    words = [tag("span", queue.name or "(no name)"), *(tag("b", mark, class_="mark") for mark in marks)]
    name = tag("th", join(words, " "), scope="row")
    cells = [column.cell(queue, why) for column, why in zip(COLUMNS, whys, strict=True)]
    return tag("tr", name, *cells, tag("td", sparkline(queue.history, "ready")), class_=queue.stuck or None)


def _mark(queue: QueueOverview) -> str:
    if queue.stuck == "late":
        return f"late: should start within {duration(queue.start_within)}"
    return STUCK_TEXT[queue.stuck]
