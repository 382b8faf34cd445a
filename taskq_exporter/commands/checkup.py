"""What `check` found, as text for a terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from operator import itemgetter

from taskq_exporter.text import printable
from taskq_exporter.view.doctor import Checkup, Report
from taskq_exporter.view.overview import STUCK_TEXT, QueueOverview, WorkerOverview
from taskq_exporter.view.units import duration, number_of

__all__ = ["lines"]

#: Columns of the words on the left.
LEFT = 11
#: Queues, workers and labels that are named.
NAMED = 10
_COLOURS = {"ok": "32", "up": "32", "note": "33", "partial": "33", "problem": "31", "down": "31", "name": "1"}


def lines(report: Report, *, width: int = 80, colour: bool = False) -> Iterator[str]:
    """A paragraph for each source, and a last line for all.

    Args:
        report: What was found.
        width: Columns that lines keep to, but those that are to be copied.
        colour: Whether the terminal shows colours.
    """
    text = _Text(width, colour=colour)
    for checkup in report.sources:
        yield from text.source(checkup)
        yield ""
    bad = [checkup.name for checkup in report.sources if not checkup.healthy]
    all_ = number_of(len(report.sources), "source")
    yield from text.wrapped("", f"{all_}, with problems: {', '.join(bad)}" if bad else f"{all_}, no problem", left=0)


class _Text:
    def __init__(self, width: int, *, colour: bool) -> None:
        self._width, self._colour = width, colour

    def source(self, of: Checkup) -> Iterator[str]:
        state = of.reason if of.state == "down" and of.reason else ""
        head = [f"{of.server} {of.server_version}".strip(), duration(of.collect_seconds) if of.collect_seconds else ""]
        head += [f"{of.commands} commands" if of.commands else "", "" if of.following is not False else "not following"]
        told = ", ".join(filter(None, [of.adapter, *head]))
        name = self._painted("name", printable(of.name))
        yield f"{name}: {self._painted(of.state, of.state)}{f' ({state})' if state else ''}; {printable(told)}"
        if of.state == "down":
            where = f"{of.where}: " if of.where else ""
            yield from self.wrapped("problem", f"{where}{of.message}")
            yield from self._grants(of)
            return
        if of.state == "starting":
            return
        yield from self.wrapped("queues", _named(of.queues_total, [_queue(queue) for queue in of.queues]))
        if of.workers or any(of.worker_states.values()):
            yield from self.wrapped("workers", _workers(of))
        if of.schedulers:
            each = [f"{s.name} ({_joined(_alive(s.up), _number(s.entries, 'entries'))})" for s in of.schedulers]
            yield from self.wrapped("schedulers", _named(len(each), each))
        for problem in of.problems:
            yield from self.wrapped("problem", f"cannot read {problem.part}: {problem.reason}: {problem.message}")
        for level in ("problem", "note", "ok"):
            for finding in of.findings:
                if finding.level == level:
                    yield from self.wrapped(level, finding.text, finding.advice)
        yield from self._cannot_tell(of)
        yield from self._grants(of)
        yield from self._cost(of)

    def _cannot_tell(self, of: Checkup) -> Iterator[str]:
        """Families by what would have to change, those that nothing changes last."""
        lacking: dict[tuple[bool, str], dict[str, list[str]]] = {}  # families and their states
        for c in of.capabilities:
            if not c.can:
                families = lacking.setdefault((c.reason == "backend", c.advice), {})
                families.setdefault(c.family, []).extend([c.state] if c.state else [])
        if lacking:
            yield "  cannot tell"
        for (_, advice), families in sorted(lacking.items(), key=itemgetter(0)):
            names = [f"{family} ({', '.join(states)})" if states else family for family, states in families.items()]
            yield from self.wrapped("", ", ".join(names), advice, left=4)

    def _grants(self, of: Checkup) -> Iterator[str]:
        if of.grants:
            yield "  rights that its user needs"
            yield from (f"    {printable(line)}" for line in of.grants.splitlines())

    def _cost(self, of: Checkup) -> Iterator[str]:
        most = ", ".join(f"{f.family} {f.series:,}" for f in of.families[:3])
        yield from self.wrapped("series", f"{of.series:,}; most: {most}" if most else f"{of.series:,}")
        for cost in (cost for cost in of.labels[:NAMED] if cost.advice):
            text = f"label {cost.label}: {cost.series:,} series, {cost.without:,} without it ({cost.advice})"
            yield from self.wrapped("", text)
        for compat in of.compat:
            more = "; ".join(f"{n:,} for each {labels}" for labels, n in compat.more.items())
            text = f"{compat.mapping}: {compat.series:,} of these series{f'; tasks bring {more}' if more else ''}"
            yield from self.wrapped("compat", text)
            for name, why in compat.not_known.items():
                yield from self.wrapped("", f"without {name}: {why}")

    def wrapped(self, word: str, text: str, advice: str = "", *, left: int = LEFT) -> Iterator[str]:
        """A word on the left, the text beside it, and below it what to do."""
        beside = " " * left
        first, *others = self._wrap(text, beside) or [beside]
        if word:
            first = f"  {self._painted(word, word)}{' ' * (left - len(word) - 2)}{first[left:]}"
        yield from (first, *others)
        if advice:
            yield from self._wrap(f"-> {advice}", f"{beside}  ", f"{beside}     ")

    def _wrap(self, text: str, indent: str, later: str = "") -> list[str]:
        return textwrap.wrap(
            printable(text),
            self._width,
            initial_indent=indent,
            subsequent_indent=later or indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _painted(self, kind: str, text: str) -> str:
        code = _COLOURS.get(kind) if self._colour else None
        return f"\x1b[{code}m{text}\x1b[m" if code else text


def _queue(queue: QueueOverview) -> str:
    counts = [
        f"{'at least ' if state in queue.capped else ''}{n:,} {state}"
        for state, n in queue.tasks.items()
        if n or state == "ready"
    ]
    oldest = f"oldest {duration(queue.oldest_ready)}{' or more' if queue.oldest_is_bound else ''}"
    told = _joined(*counts, oldest if queue.oldest_ready else "", STUCK_TEXT[queue.stuck])
    return f"{queue.name or '(unnamed)'} ({told})" if told else queue.name or "(unnamed)"


def _workers(of: Checkup) -> str:
    if not of.workers:
        return ", ".join(f"{n:,} {state}" for state, n in of.worker_states.items())
    return _named(of.workers_total, [_worker(worker) for worker in of.workers])


def _worker(worker: WorkerOverview) -> str:
    software = f"{worker.software} {worker.software_version}".strip()
    told = _joined(_alive(worker.up), worker.pool, software, _number(worker.slots, "slots"))
    return f"{worker.name} ({told})" if told else worker.name


def _alive(up: bool | None) -> str:
    return {True: "up", False: "down", None: ""}[up]


def _number(n: int | None, what: str) -> str:
    return f"{n:,} {what}" if n is not None else ""


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _named(total: int | None, each: Sequence[str]) -> str:
    """How many, and the first of them."""
    n = len(each) if total is None else total
    more = f", and {n - NAMED:,} more" if n > NAMED else ""
    return f"{n:,}: {', '.join(each[:NAMED])}{more}" if each else "none"
