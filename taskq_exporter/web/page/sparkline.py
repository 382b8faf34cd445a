"""A sparkline as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from taskq_exporter.view.units import count
from taskq_exporter.web.page.markup import Markup, tag

__all__ = ["sparkline"]

#: Size of the drawing; an empty queue is a line at the bottom.
WIDTH, HEIGHT = 120, 20


def sparkline(history: Sequence[float | None], what: str) -> Markup:
    """A line through the values, oldest first, with a gap where one is not known; "" below two known values."""
    known = [value for value in history if value is not None]
    if len(known) < 2:
        return Markup("")
    text = f"{what}: {count(min(known))} to {count(max(known))}"
    line = tag("path", d=_path(history, max(known)))
    return tag(
        "svg", line, viewBox=f"0 -1 {WIDTH} {HEIGHT + 2}", preserveAspectRatio="none", role="img", aria_label=text
    )


def _path(history: Sequence[float | None], top: float) -> str:
    step = WIDTH / (len(history) - 1)
    heights = [None if v is None else round(HEIGHT - HEIGHT * v / top) if top else HEIGHT for v in history]
    points, previous = [], None
    for i, height in enumerate(heights):
        following = heights[i + 1] if i + 1 < len(heights) else None
        # what lies between equals on both sides draws nothing, and long pages are mostly that
        if height is not None and not previous == height == following:
            points.append(f"{'M' if previous is None else 'L'}{round(i * step)} {height}")
        previous = height
    return "".join(points)
