"""A dashboard's JSON and what Prometheus answers to it, drawn as one HTML page: for pictures where no Grafana is."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Ask", "Series", "board_page"]

COLUMN, LINE, GAP, WIDTH = 46, 32, 8, 24
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0", "#96d98d", "#fade2a")
THRESHOLDS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}
LEGEND_LINES = 4
ROWS = 8
STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 11px "DejaVu Sans", sans-serif; position: relative; }
.panel { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #25272e; border-radius: 2px;
  overflow: hidden; padding: 6px 8px; }
.row { position: absolute; font-size: 15px; padding-top: 9px; color: #fff; }
h2 { font-size: 13px; font-weight: 500; margin: 0 0 6px; white-space: nowrap; }
.stat { display: flex; justify-content: space-around; align-items: center; height: 70%; font-size: 30px; }
.stat small { display: block; font-size: 11px; color: #9a9aa8; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 3px 6px; white-space: nowrap;
  border-bottom: 1px solid #25272e; font-weight: 400; } th { color: #6e9fff; } .n { text-align: right; }
.bar { display: grid; grid-template-columns: 34% 1fr 16%; gap: 8px; align-items: center; margin: 5px 0;
  white-space: nowrap; }
.bar i { display: block; height: 14px; } .bar span { overflow: hidden; text-overflow: ellipsis; }
.legend { color: #b0b0bd; line-height: 16px; }
.legend b { display: inline-block; width: 12px; height: 3px; margin: 3px 6px 3px 0; }
.legend div { display: grid; grid-template-columns: 1fr 66px 66px; }
.legend span { overflow: hidden; white-space: nowrap; }
svg text { fill: #8e8e9b; font-size: 10px; } .none { color: #8e8e9b; text-align: center; padding-top: 20px; }
"""


@dataclass(frozen=True)
class Series:
    """One series of an answer: (Unix time, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


#: Query -> series: over the whole picture, or of now with one point each.
Ask = Callable[[str, bool], Sequence[Series]]


def board_page(board: Mapping[str, Any], ask: Ask) -> tuple[str, int, int]:
    """The page of a dashboard, and its width and height in pixels."""
    panels = board["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE + GAP
    width = WIDTH * COLUMN + GAP
    drawn = "".join(_panel(panel, ask) for panel in panels)
    page = f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body style="height:{height}px">{drawn}'
    return page, width, height


def _panel(panel: Mapping[str, Any], ask: Ask) -> str:
    place = panel["gridPos"]
    x, y, w, h = place["x"] * COLUMN + GAP, place["y"] * LINE + GAP, place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
    title = escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class="row" style="left:{x}px;top:{y - GAP}px">{title}</div>'
    answers = [(target, ask(target["expr"], target["instant"])) for target in panel["targets"]]
    if any(series for _, series in answers):
        kinds = {"stat": _stat, "bargauge": _bars, "table": _table}
        body = _chart(panel, answers, w - 18, h - 36) if panel["type"] == "timeseries" else ""
        body = body or kinds[panel["type"]](panel, answers)
    else:
        body = '<div class="none">No data</div>'
    return f'<div class="panel" style="left:{x}px;top:{y}px;width:{w}px;height:{h}px"><h2>{title}</h2>{body}</div>'


_Answers = Sequence[tuple[Mapping[str, Any], Sequence[Series]]]


def _named(answers: _Answers) -> Iterator[tuple[str, Series]]:
    """Each series with its legend."""
    for target, found in answers:
        for series in found:
            legend, labels = target["legendFormat"], series.labels
            if legend == "__auto":
                yield ", ".join(f"{k}={v}" for k, v in sorted(labels.items())), series
            else:
                words = re.split(r"{{(\w+)}}", legend)  # text, label, text, label …
                yield "".join(labels.get(word, "") if i % 2 else word for i, word in enumerate(words)).strip(), series


def _stat(panel: Mapping[str, Any], answers: _Answers) -> str:
    named = list(_named(answers))
    cells = (
        f'<div style="color:{_colour(panel, series.last)}">{_text(series.last, _unit(panel))}'
        f"<small>{escape(name) if len(named) > 1 else ''}</small></div>"
        for name, series in named
    )
    return f'<div class="stat">{"".join(cells)}</div>'


def _bars(panel: Mapping[str, Any], answers: _Answers) -> str:
    named = sorted(_named(answers), key=lambda one: -one[1].last)[:ROWS]
    top = panel["fieldConfig"]["defaults"].get("max") or max(series.last for _, series in named) or 1.0
    return "".join(
        f'<div class="bar"><span>{escape(name)}</span><i style="background:{_colour(panel, series.last)};'
        f'width:{max(0.5, 100 * min(1.0, series.last / top)):.1f}%"></i>{_text(series.last, _unit(panel))}</div>'
        for name, series in named
    )


def _table(panel: Mapping[str, Any], answers: _Answers) -> str:
    columns: Mapping[str, str] = panel["transformations"][-1]["options"]["renameByName"]
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["properties"][0]["id"] == "unit"
    }
    order = sorted(panel["transformations"][-1]["options"]["indexByName"].items(), key=lambda pair: pair[1])
    lines: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for i, (_, found) in enumerate(answers):
        value = f"Value #{chr(ord('A') + i)}" if len(answers) > 1 else "Value"
        for series in found:
            labels = {name: text for name, text in series.labels.items() if name in dict(order)}
            line = lines.setdefault(tuple(sorted(labels.items())), dict(labels))
            if value in columns:
                line[value] = _text(series.last, units.get(columns[value], _unit(panel)))
    head = "".join(
        f'<th class="{"n" if name in columns else ""}">{escape(columns.get(name) or name)}</th>' for name, _ in order
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"n" if name in columns else ""}">{escape(line.get(name, ""))}</td>' for name, _ in order
        )
        + "</tr>"
        for line in lines.values()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _chart(panel: Mapping[str, Any], answers: _Answers, width: int, height: int) -> str:
    """Lines, or areas one upon the other, with the greatest series in the legend."""
    named = sorted(_named(answers), key=lambda one: -max(value for _, value in one[1].points))
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    unit = _unit(panel)
    shown = named[:LEGEND_LINES]
    plot = height - 16 * (len(shown) + 2) - 8
    left = 50
    times = [t for _, series in named for t, _ in series.points]
    start, end = min(times), max(max(times), min(times) + 1)
    ground: dict[float, float] = {}
    curves: list[list[tuple[float, float, float]]] = []
    for _, series in named:
        curve = []
        for t, value in series.points:
            low = ground.get(t, 0.0) if stacked else 0.0
            ground[t] = low + value
            curve.append((t, low, low + value))
        curves.append(curve)
    top = _nice(max((high for curve in curves for _, _, high in curve), default=1.0))

    def place(t: float, value: float) -> str:
        return f"{left + (t - start) / (end - start) * (width - left):.1f},{plot - value / top * (plot - 6):.1f}"

    parts = []
    for i in range(5):
        value = top * i / 4
        y = place(start, value).split(",")[1]
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y}" y2="{y}" stroke="#25272e"/>')
        parts.append(f'<text x="{left - 5}" y="{float(y) + 3}" text-anchor="end">{_text(value, unit)}</text>')
    for i in range(4):
        t = start + (end - start) * (i + 0.5) / 4
        at = time.strftime("%H:%M", time.gmtime(t))
        parts.append(f'<text x="{place(t, 0).split(",")[0]}" y="{plot + 13}" text-anchor="middle">{at}</text>')
    for curve, colour in zip(curves, _colours(), strict=False):
        for piece in _pieces(curve, (end - start) / 40):
            line = " ".join(place(t, high) for t, _, high in piece)
            floor = " ".join(place(t, low) for t, low, _ in reversed(piece))
            opacity = 0.3 if stacked else 0.08
            parts.append(f'<polygon points="{line} {floor}" fill="{colour}" fill-opacity="{opacity}"/>')
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    legend = "<div><span></span><span>Last</span><span>Max</span></div>" + "".join(
        f'<div><span><b style="background:{colour}"></b>{escape(name or "Value")}</span>'
        f"<span>{_text(series.last, unit)}</span><span>{_text(max(v for _, v in series.points), unit)}</span></div>"
        for (name, series), colour in zip(shown, _colours(), strict=False)
    )
    drawing = f'<svg width="{width}" height="{plot + 18}">{"".join(parts)}</svg>'
    return f'{drawing}<div class="legend">{legend}</div>'


def _pieces(curve: Sequence[tuple[float, float, float]], gap: float) -> Iterator[list[tuple[float, float, float]]]:
    """A curve without the stretches where there are no points."""
    piece: list[tuple[float, float, float]] = []
    for point in curve:
        if piece and point[0] - piece[-1][0] > gap:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _unit(panel: Mapping[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def _colour(panel: Mapping[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return THRESHOLDS[reached[-1]]


def _nice(value: float) -> float:
    """The least round number that is not smaller."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * 0.999)


def _text(value: float, unit: str) -> str:
    """A value as Grafana writes it."""
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 s"
    if unit == "bytes":
        for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} B"
    number = (
        f"{value / 1000:.3g} K"
        if abs(value) >= 10000
        else f"{round(value, 2):g}"
        if abs(value) >= 1
        else f"{value:.2g}"
    )
    return f"{number}/s" if unit == "ops" else number
