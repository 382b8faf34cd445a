"""The benchmarks' load is what Celery's workers send, and all that are compared read the same in it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from taskq_exporter_celery.events import decode

from bench.bare_loop import BareLoop
from bench.celery.subjects import total
from bench.fleet import TASKS, WORKERS, Fleet, Message
from bench.report import Report, Row, bar

N = 3 * TASKS * WORKERS


def messages(batch: int, heartbeat_every: int = 0) -> list[Message]:
    fleet = Fleet(batch)
    sent = list(fleet.workers(b"worker-online", 1.0))
    for number in range(N):
        sent += fleet.step(2.0)
        if heartbeat_every and number % heartbeat_every == 0:
            sent += fleet.workers(b"worker-heartbeat", 2.0)
    return [*sent, *fleet.finish(3.0), *fleet.workers(b"worker-offline", 4.0)]


def events(sent: list[Message]) -> list[dict[str, Any]]:
    return [event for _, payload in sent for event in decode(payload)]


@pytest.mark.parametrize("batch", [1, 10])
async def test_the_adapter_and_the_bare_loop_read_the_same_events(
    batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = messages(batch)
    loop = BareLoop("/0.celeryev/*")
    for routing_key, payload in sent:
        words = [b"pmessage", b"/0.celeryev/*", b"/0.celeryev/" + routing_key, payload]
        loop.data_received(b"*4\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    loop.report()

    said = json.loads(capsys.readouterr().out)
    kinds = Counter(e["type"] for e in events(sent) if "uuid" in e)
    assert said == dict(kinds) == dict.fromkeys(("task-received", "task-started", "task-succeeded"), N)


def test_a_batch_is_of_one_worker_and_full() -> None:
    tasks = [decode(payload) for key, payload in messages(10) if key == b"task.multi"]
    assert all(len({e["hostname"] for e in batch}) == 1 for batch in tasks)
    assert Counter(len(batch) for batch in tasks)[10] >= len(tasks) - WORKERS


def test_every_pair_of_task_and_worker_occurs() -> None:
    received = [e for e in events(messages(1)) if e["type"] == "task-received"]
    assert len({(e["name"], e["hostname"]) for e in received}) == TASKS * WORKERS


def test_heartbeats_say_what_the_workers_did() -> None:
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    beats = 0
    for event in events(messages(10, heartbeat_every=100)):
        counts = seen[event["hostname"]]
        if "uuid" in event:
            counts[event["type"]] += 1
            continue
        beats += 1
        assert event["processed"] == counts["task-started"]
        assert event["active"] == counts["task-started"] - counts["task-succeeded"]
    assert beats > 2 * WORKERS


def test_an_envelope_is_as_kombu_writes_it() -> None:
    _, payload = next(Fleet(1).step(1795245528.3064253))
    envelope = json.loads(payload)
    assert json.dumps(envelope).encode() == payload  # spaces and all
    assert list(envelope) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert len(payload) == pytest.approx(788, abs=20)  # as a real worker's task-received was
    body = b64decode(envelope["body"])
    assert json.dumps(json.loads(body)).encode() == body


def test_the_totals_of_a_page_are_of_the_label() -> None:
    page = 'a_total{outcome="failed"} 1.0\na_total{outcome="succeeded"} 2.0\na_total_more{outcome="succeeded"} 4.0\n'
    assert total(page, "a_total", 'outcome="succeeded"') == 2
    assert total(page, "a_total") == 3


@pytest.mark.parametrize(
    ("row", "failed"),
    [
        (bar("x", "1", "", "1", True), False),
        (bar("x", "2", "", "1", False), True),
        (Row("x", "not here", verdict="SKIPPED"), True),
    ],
)
def test_a_run_fails_where_a_bar_is_missed_or_nothing_could_be_compared(row: Row, failed: bool) -> None:
    report = Report()
    report.take([row])
    assert report.failed(allow_skipped=False) is failed


def test_a_run_without_rows_fails() -> None:
    assert Report().failed(allow_skipped=True)


def test_a_group_that_breaks_fails_the_run() -> None:
    report = Report()
    with report.group("broken"):
        raise RuntimeError("first\nlast")
    assert report.failed(allow_skipped=True)
    assert report.table().splitlines()[-1] == "| broken | RuntimeError: last |  |  | FAIL |"


def test_the_other_exporters_versions_name_no_index() -> None:
    lock = (Path(__file__).parents[2] / "bench" / "celery-exporter.txt").read_text("utf-8")
    assert "--hash=sha256:" in lock
    assert "://" not in lock
