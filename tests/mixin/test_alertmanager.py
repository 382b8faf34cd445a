"""The example of Alertmanager's configuration, in a real one: who is told of what, and what follows from what."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from told import tool

from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.thresholds import Thresholds
from taskq_exporter.testing.child import Child
from taskq_exporter.testing.processes import free_port, new_directory

FILE = Path(__file__).parents[2] / "deploy" / "alertmanager.yml"
PACKAGE = "prometheus-alertmanager"
SEVERITY = {alert.name: alert.severity for alert in alerts(Thresholds())}
SHOP = {"cluster": "", "namespace": "prod", "job": "taskq", "source": "shop"}


def amtool(*arguments: str) -> str:
    result = subprocess.run([tool("amtool", PACKAGE), *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def test_amtool_accepts_it() -> None:
    assert "SUCCESS" in amtool("check-config", str(FILE))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "TaskqQueueTooOld", "team": "growth"}, "growth-on-call"),
        ({"alertname": "TaskqFailureRatio", "team": "growth"}, "growth"),
        ({"alertname": "TaskqQueueTooOld", "team": "unheard-of"}, "platform-on-call"),
        ({"alertname": "TaskqExporterDown"}, "platform-on-call"),
        ({"alertname": "TaskqReloadFailed"}, "platform"),
    ],
)
def test_who_is_told(labels: dict[str, str], receiver: str) -> None:
    given = [f"{key}={value}" for key, value in {**labels, "severity": SEVERITY[labels["alertname"]]}.items()]
    assert amtool("config", "routes", "test", f"--config.file={FILE}", *given) == receiver


def test_every_matcher_names_alerts_that_exist() -> None:
    for rule in yaml.safe_load(FILE.read_text("utf-8"))["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            names = re.fullmatch(r'alertname(?:!=|=~|=)"(.+)"', matcher)
            assert names
            for name in names[1].split("|"):
                assert [known for known in SEVERITY if re.fullmatch(name, known)], name


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[str]:
    """The URL of a real one with the example."""
    program = tool("prometheus-alertmanager", PACKAGE)
    url, directory = f"http://127.0.0.1:{free_port()}", new_directory("alertmanager", None)
    address = f"--web.listen-address={url.removeprefix('http://')}"
    command = [program, f"--config.file={FILE}", f"--storage.path={directory}", address, "--cluster.listen-address="]
    with Child(command, directory=directory, ready=lambda: answers(f"{url}/-/ready")):
        yield url


def answers(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read() or True
    except OSError:
        return None


LATE = {"TaskqBacklogGrowing", "TaskqBacklogTooLong", "TaskqObjectiveBurnsSlowly"}
STANDS = LATE | {"TaskqQueueTooOld", "TaskqQueueStalled", "TaskqObjectiveBurnsFast"}
#: What a cause silences, of the same source.
SILENCED = {
    "TaskqSourceDown": {*SEVERITY} - {"TaskqSourceDown"},
    "TaskqFollowerDown": STANDS - {"TaskqBacklogGrowing", "TaskqQueueTooOld"}
    | {"TaskqFailureRatio", "TaskqRetryStorm", "TaskqTasksLost"},
    "TaskqFollowerLate": {"TaskqBacklogTooLong", "TaskqQueueStalled"},
    "TaskqNoWorkers": STANDS | {"TaskqQueueNoConsumers", "TaskqWorkersGone", "TaskqWorkerDown", "TaskqWorkersSilent"},
    "TaskqWorkersGone": {"TaskqWorkerDown"},
    "TaskqQueueNoConsumers": STANDS,
    "TaskqQueueTooOld": LATE,
    "TaskqQueueStalled": LATE,
    "TaskqObjectiveBurnsFast": LATE,
    "TaskqSchedulerDown": {"TaskqScheduleOverdue"},
}


@pytest.mark.parametrize("cause", SILENCED)
def test_what_follows_is_not_told_again(alertmanager: str, cause: str) -> None:
    """Of all alerts of a source that fire at once, and of those of another one."""
    silenced = SILENCED[cause]
    firing_here = {cause} | silenced | (SEVERITY.keys() - SILENCED.keys())  # another cause would be named in its place
    here, other = {**SHOP, "source": f"shop-{cause}"}, {**SHOP, "source": f"other-{cause}"}
    firing = [{"labels": {"alertname": name, "queue": "q", **here}} for name in sorted(firing_here)]
    firing += [{"labels": {**one["labels"], **other}} for one in firing if one["labels"]["alertname"] != cause]
    answers(f"{alertmanager}/api/v2/alerts", firing)
    by_cause: dict[tuple[str, str], bool] = {}
    expected = {(one["labels"]["source"], one["labels"]["alertname"]): False for one in firing}
    expected |= dict.fromkeys(((here["source"], name) for name in silenced), True)
    deadline = time.monotonic() + 20
    while by_cause != expected and time.monotonic() < deadline:
        time.sleep(0.1)
        found = json.loads(answers(f"{alertmanager}/api/v2/alerts"))
        causes = {one["fingerprint"] for one in found if one["labels"]["alertname"] == cause}
        by_cause = {
            (one["labels"]["source"], one["labels"]["alertname"]): bool(causes & set(one["status"]["inhibitedBy"]))
            for one in found
            if one["labels"]["source"].endswith(f"-{cause}")
        }
    assert by_cause == expected
