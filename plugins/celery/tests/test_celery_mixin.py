"""celery-mixin as it is published, over our `celery-exporter` and over the original, side by side.

TASKQ_TEST_CELERY_MIXIN names a folder with its `dashboards_out/*.json` and its alerts: a checkout of celery-mixin. The
text is not ours to keep here; tests/e2e/test_compat.py asks for each name and label in words of our own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from other_exporter import OURS, THEIR_PYTHON, THEIRS, CeleryExporter

from taskq_exporter.testing.prometheus import Prometheus

MIXIN = os.environ.get("TASKQ_TEST_CELERY_MIXIN", "")
pytestmark = [
    pytest.mark.full,
    pytest.mark.newest,
    pytest.mark.skipif(not MIXIN, reason="TASKQ_TEST_CELERY_MIXIN names no folder of celery-mixin"),
    pytest.mark.skipif(not THEIR_PYTHON.exists(), reason="make bench/.venvs/celery-exporter/.installed"),
]

#: What Grafana puts there by itself: the boards show two days.
BUILT_IN = {"__range": "172800s", "__rate_interval": "1m"}
#: Labels by which the two may differ.
ALONE = ("instance", "source")

Values = dict[frozenset[tuple[str, str]], float]


class Shown:
    """What Prometheus and Grafana make of one of the programs."""

    def __init__(self, program: Sequence[str], url: str, rules: Sequence[dict[str, Any]]) -> None:
        self.exporter = CeleryExporter(program, url, "--worker-timeout=8", "--queues=celery,unread")
        self.rules = rules

    def look(self) -> None:
        """Start Prometheus."""
        target = {"targets": [self.exporter.address], "labels": {"namespace": "prod"}}
        # a page of theirs takes 2 s
        job = {"job_name": "celery-exporter", "scrape_interval": "4s", "scrape_timeout": "4s"}
        self.prometheus = Prometheus([{**job, "static_configs": [target]}], *self.rules)

    def last(self, expression: str, at: float) -> Values:
        """The last values of an expression in the minute before: what a graph ends with."""
        found = self.prometheus.query(f"last_over_time(({expression})[1m:1s])", at)
        return {frozenset(label for label in of if label[0] not in ALONE): value for of, value in found.items()}

    def variables(self, board: dict[str, Any]) -> dict[str, str]:
        """The values that Grafana chooses: all of a variable that takes several, else the first."""
        chosen = dict(BUILT_IN)
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.*), *(\w+)\)", filled(variable["query"], chosen))
                assert asked is not None, variable
                values = self._label_values(asked[1], asked[2])
                chosen[variable["name"]] = "|".join(values) if variable.get("multi") else next(iter(values), "")
        return chosen

    def _label_values(self, selector: str, label: str) -> list[str]:
        match = urllib.parse.urlencode({"match[]": selector})
        with urllib.request.urlopen(f"{self.prometheus.url}/api/v1/label/{label}/values?{match}") as answer:
            found: list[str] = json.load(answer)["data"]
        return found

    def close(self) -> None:
        """Stop what was started."""
        if hasattr(self, "prometheus"):
            self.prometheus.close()
        self.exporter.close()


def filled(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables[found[1] or found[2]], text)


def queries(board: dict[str, Any], variables: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Panel and query."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{board['title']}: {panel['title']}", filled(target["expr"], variables)


def work(project: Any) -> None:
    """Each kind of end, at most three times: so few that what increase() extrapolates is rounded off again."""
    project.send("fail", n=3)
    project.send("reject", n=2)
    project.send("retry")  # three attempts
    project.send("slow", 0.12)
    project.send("ok", n=2, countdown=2, expires=1)  # expires at the worker: else the other may not know its name


@pytest.fixture(params=["redis_url", "rabbitmq_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.mark.timeout(600)
def test_it_shows_the_same_of_both(url: str, make_project: Any) -> None:
    folder = Path(MIXIN)
    boards = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("dashboards_out/*.json"))]
    files = [yaml.safe_load(file.read_text("utf-8")) for file in sorted(folder.glob("prometheus*alerts.yaml"))]
    alerts = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    assert boards, f"no dashboards_out/*.json in {folder}"
    assert alerts, f"no prometheus_alerts.yaml in {folder}"
    project = make_project(url, celery="5.4")  # from 5.7 on a rejected task also fails, and the other counts both
    with contextlib.ExitStack() as stack:
        shown = [stack.enter_context(contextlib.closing(Shown(program, url, files))) for program in (THEIRS, OURS)]
        began = time.monotonic()

        def until(query: str, value: float) -> None:
            for of in shown:
                is_so = functools.partial(lambda prometheus: prometheus.value(query) == value, of.prometheus)
                of.prometheus.until(is_so, f"{query} is {value}", 60)

        how = ("-c", "3", "--heartbeat-interval", "1")
        # a retry that is told as sent is now and then received by its sender there
        project.worker(*how, name="w@busy", task_send_sent_event=False).ready()
        spare = project.worker(*how, name="w@spare", queues="spare").ready()
        project.send("ok", n=120, queue="unread")
        work(project)
        # Their series begin at the first value, which increase() does not count: all are there before somebody looks.
        # Ours are shown at 0 first, in the first minute of the process even to a scraper that is not known.
        time.sleep(max(0.0, began + 62 - time.monotonic()))
        for of in shown:
            of.look()
        until("sum(celery_task_succeeded_total)", 2)
        time.sleep(40)  # the longer it has looked, the less is extrapolated
        spare.kill()
        work(project)
        until("sum(celery_task_succeeded_total)", 4)
        project.send("slow", 300)
        until("sum(celery_worker_tasks_active)", 1)
        time.sleep(6)
        project.send("slow", 0.12)  # alone between two scrapes, for irate()
        until("sum(celery_task_succeeded_total)", 5)
        until("count(celery_worker_up == 0)", 1)
        time.sleep(6)
        now = time.time()
        asked = [(rule["alert"], rule["expr"]) for rule in alerts]
        for board in boards:
            theirs, ours = (of.variables(board) for of in shown)
            assert theirs == ours
            asked += queries(board, theirs)
        told = [(what, query, *(of.last(query, now) for of in shown)) for what, query in [*asked, ("alerts", "ALERTS")]]
        wrong = [of for of in told if not of[2] or of[3] != pytest.approx(of[2], rel=1e-6)]
        assert not wrong, "\n".join(f"{what}\n{query}\ntheirs {a}\nours   {b}\n" for what, query, a, b in wrong)
        assert {dict(labels)["alertname"] for labels in told[-1][2]} == {rule["alert"] for rule in alerts}
