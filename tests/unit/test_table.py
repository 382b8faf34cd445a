"""The table of a terminal: what fits, what is known, and nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from taskq_exporter.text import printable
from taskq_exporter.view.overview import QueueOverview, SourceOverview
from taskq_exporter.view.table import table


def source(name: str = "shop", state: Any = "up", *queues: QueueOverview, **of: Any) -> SourceOverview:
    return SourceOverview(name=name, adapter="fake", state=state, queues=queues, **of)


BUSY = QueueOverview(
    name="emails",
    tasks={"ready": 12_345, "scheduled": 3, "retry": 1, "running": 2, "failed": 7},
    oldest_ready=134.0,
    longest_run=3.2,
    finished_per_second=12.34,
    failed_per_second=0.05,
    consumers=0,
    stuck="no_consumers",
)
HEAD = ["SOURCE", "QUEUE", "READY", "LATER", "RUNNING", "FAILED", "OLDEST", "LONGEST", "DONE", "FAILING", "READERS"]


def texts(*sources: SourceOverview, width: int = 160) -> list[str]:
    return [line.text for line in table(sources, width)]


def test_columns_are_aligned_and_what_is_not_known_is_a_dash_and_never_0() -> None:
    lines = texts(source("shop", "up", QueueOverview(name="celery", tasks={"ready": 0})), source("web", "up", BUSY))
    assert [line.removesuffix("STUCK").split() for line in lines] == [
        HEAD,
        ["web", "emails", "12.3k", "4", "2", "7", "2m14s", "3.2s", "12.3/s", "3/min", "0", "no", "consumers"],
        ["shop", "celery", "0", *"--------"],
    ]
    ends = {line.index(cell) + len(cell) for line, cell in zip(lines, ("READY", "12.3k", " 0"), strict=True)}
    assert len(ends) == 1


def test_a_count_that_stopped_at_a_limit_says_at_least() -> None:
    queue = QueueOverview(
        name="q", tasks={"ready": 100_000, "scheduled": 3, "retry": 5, "running": 2}, capped=("ready", "retry")
    )
    aged = QueueOverview(name="z", tasks={"ready": 1}, oldest_ready=3.0, oldest_is_bound=True)
    _, other, line = texts(source("shop", "up", queue, aged))
    assert line.split()[2:5] == ["≥100k", "≥8", "2"]
    assert other.split()[2:7] == ["1", "-", "-", "-", "≥3s"]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 99, 100, 132, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    names = ["q" * 200, "队列" * 60, "e\u0301" * 90, "plain"]
    queues = [QueueOverview(name=name, tasks={"ready": 10**9}, stuck="late", oldest_ready=10**7) for name in names]
    down = source("down" * 40, "down", reason="connect", message="x" * 300)
    for line in texts(source("shop" * 30, "up", *queues), down, width=width):
        columns = [2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in line]
        assert sum(columns) <= width, line


def test_80_columns_hold_what_matters_and_wide_letters_take_two() -> None:
    lines = texts(source("shop", "up", BUSY, QueueOverview(name="队列", tasks={"ready": 5})), width=80)
    assert "READY" in lines[0]
    assert "READERS" not in lines[0], "more in a wider terminal"
    assert lines[1].endswith("no consumers")
    assert "emails" in lines[1]
    ready = lines[1].index("12.3k") + len("12.3k")
    assert lines[2].index("5") + 1 + 2 == ready, "the two letters take four columns"


def test_long_names_are_cut_and_the_longer_one_first() -> None:
    lines = texts(source("shop", "up", QueueOverview(name="a-queue-" * 20)), width=80)
    assert "shop" in lines[1]
    assert "…" in lines[1]
    assert lines[1].count("a-queue-") >= 2


def test_sources_that_have_something_to_say_stand_above() -> None:
    lines = table(
        [
            source("a", "down", reason="connect", message="refused\x1b[2J"),
            source("b", "partial", message="cannot read workers: no right"),
            source("d", "starting"),
            source("e"),
        ],
        160,
    )
    assert [(line.kind, line.text) for line in lines[:-1]] == [
        ("bad", r"a is down: connect: refused\x1b[2J"),
        ("bad", "b: cannot read workers: no right"),
        ("bad", "d: no collect has ended yet"),
    ]
    assert lines[-1].kind == "head"


def test_nothing_of_a_name_reaches_the_terminal_as_a_command() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\t\u202e\u200b\x9b31m\ud800"
    [_, line] = texts(source("shop", "up", QueueOverview(name=evil)))
    assert line.isprintable()
    assert r"\x1b]0;owned\x07\x1b[2J\r\n\t\u202e\u200b\x9b31m\ud800" in line
    assert printable("plain naïve 队列") == "plain naïve 队列"
