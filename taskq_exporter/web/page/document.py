"""The whole page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from taskq_exporter import __version__
from taskq_exporter.view.overview import SourceOverview
from taskq_exporter.view.units import number_of
from taskq_exporter.web.page.markup import Markup, join, tag
from taskq_exporter.web.page.sources import SYMBOLS, source_id, source_section
from taskq_exporter.web.page.view import View

__all__ = ["document"]

#: Rows of queues on a page; beyond, each source shows its part of them and at least MIN_ROWS.
MAX_ROWS: Final = 500
MIN_ROWS: Final = 10
#: Seconds after which a page without JavaScript is fetched again.
REFRESH: Final = 30


def document(sources: Sequence[SourceOverview], view: View, links: Mapping[str, str], assets: str, now: float) -> str:
    """The page as HTML.

    Args:
        sources: What is known.
        view: What is asked for.
        links: Titles and relative addresses of the exporter's other pages.
        assets: A text that changes with style and script.
        now: Unix seconds.
    """
    title = f"{_headline(sources)} · taskq-exporter"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="-/page.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href=f"-/page.css?{assets}"),
        tag("script", src=f"-/page.js?{assets}", defer=True),
        tag("noscript", Markup(f'<meta http-equiv="refresh" content="{REFRESH}">')),
    )
    body = tag("body", _header(sources, view, links, now), _main(sources, view, now))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en', data_version=assets)}\n"


def _header(sources: Sequence[SourceOverview], view: View, links: Mapping[str, str], now: float) -> Markup:
    pages = tag("nav", *(tag("a", text, href=address) for text, address in links.items()), aria_label="Exporter")
    time = datetime.fromtimestamp(now, UTC)
    at = tag("time", f"{time:%H:%M:%S} UTC", datetime=f"{time:%Y-%m-%dT%H:%M:%SZ}")
    summary = tag("div", tag("p", tag("strong", _headline(sources)), " at ", at), _sources_nav(sources), id="summary")
    box = tag("input", id="filter", name="filter", type="search", value=view.filter, placeholder="a part of its name")
    hidden = [tag("input", type="hidden", name="sort", value=view.sorting)] if view.sort else []
    button = tag("noscript", tag("button", "Show"))
    form = tag("form", tag("label", "Queue ", box), *hidden, button, role="search")
    live = tag("p", id="live", role="status")
    name = tag("h1", "taskq-exporter ", tag("small", __version__))
    return tag("header", name, pages, summary, form, live)


def _sources_nav(sources: Sequence[SourceOverview]) -> Markup:
    """Links to the sources, where there are several."""
    if len(sources) < 2:
        return Markup("")
    links = (
        tag("a", f"{SYMBOLS[s.state]} {s.name}", *_stuck(s), href=f"#{source_id(s)}", class_=s.state)
        for s in _worst_first(sources)
    )
    return tag("nav", *links, aria_label="Sources")


def _stuck(source: SourceOverview) -> list[Markup]:
    stuck = sum(bool(queue.stuck) for queue in source.queues)
    return [tag("b", f" {stuck} stuck", class_="mark")] if stuck else []


def _main(sources: Sequence[SourceOverview], view: View, now: float) -> Markup:
    shown = []
    for source in _worst_first(sources):
        named = view.matches(source.name)
        queues = [queue for queue in source.queues if named or view.matches(queue.name)]
        if named or queues:
            shown.append((source, queues))
    rows = MAX_ROWS
    if sum(len(queues) for _, queues in shown) > MAX_ROWS:
        rows = max(MAX_ROWS // len(shown), MIN_ROWS)
    sections = [source_section(source, queues, rows, view, now) for source, queues in shown]
    if not sources:
        sections = [tag("p", "No source yet: looking for queues in the environment.", class_="none")]
    elif not sections:
        sections = [tag("p", "No queue and no source has such a name.", class_="none")]
    return tag("main", join(sections))


def _worst_first(sources: Sequence[SourceOverview]) -> list[SourceOverview]:
    rank = {"down": 0, "partial": 2, "up": 2, "starting": 3}
    return sorted(sources, key=lambda s: 1 if any(queue.stuck for queue in s.queues) else rank[s.state])


def _headline(sources: Sequence[SourceOverview]) -> str:
    """The state of everything in a few words, the worst first."""
    down = sum(source.state == "down" for source in sources)
    queues = sum(source.queues_total or 0 for source in sources)
    stuck = sum(bool(queue.stuck) for source in sources for queue in source.queues)
    words = [f"{down} of {len(sources)} sources down"] if down else []
    words += [f"{number_of(stuck, 'queue')} stuck"] if stuck else []
    words += [] if down else [f"{number_of(len(sources), 'source')}"]
    return ", ".join([*words, number_of(queues, "queue")])
