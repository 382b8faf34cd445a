"""What the page for people is made of: tags, sparklines, the addresses of its views."""

from __future__ import annotations

import re

import pytest

from taskq_exporter.web.page.markup import Markup, tag
from taskq_exporter.web.page.sparkline import sparkline
from taskq_exporter.web.page.view import View


def test_what_is_no_markup_is_escaped() -> None:
    assert tag("p", "<b>", Markup("<b>"), title='"&') == '<p title="&quot;&amp;">&lt;b&gt;<b></p>'
    assert tag("p", class_=None, hidden=True, aria_label="x") == '<p hidden aria-label="x"></p>'


@pytest.mark.parametrize(
    ("history", "path"),
    [
        ((0, 5, 10), "M0 20L60 10L120 0"),
        ((4, 4, 4, 4), "M0 0L120 0"),
        ((0, 0, 0), "M0 20L120 20"),
        ((2, 1, None, 1, 2), "M0 0L30 10M90 10L120 0"),
        ((None, 3), None),
    ],
)
def test_sparkline(history: tuple[float | None, ...], path: str | None) -> None:
    drawn = sparkline(history, "ready")
    assert re.findall(r' d="(.*?)"', drawn) == ([path] if path else [])


def test_a_column_is_sorted_then_the_other_way_round_then_no_more() -> None:
    view = View.of({"filter": "mail & <more>"})
    links = []
    for _ in range(3):
        links.append(view.link("ready"))
        sort = re.search(r"sort=([^&]*)", links[-1])
        view = View.of({"sort": sort[1] if sort else "", "filter": view.filter})
    kept = "filter=mail+%26+%3Cmore%3E"
    assert links == [f"?sort=ready&{kept}", f"?sort=-ready&{kept}", f"?{kept}"]
