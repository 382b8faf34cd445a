"""From the queue to PromQL: a real Prometheus, with the README's scrape_configs, over a real exporter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from taskq_exporter.testing import Server
from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus

StartPrometheus = Callable[[ExporterProcess], Prometheus]

FINISHED = 'taskq_tasks_finished_total{source="billing",task="%s",outcome="%s"}'


def increase(prometheus: Prometheus, selector: str) -> float | None:
    """increase() over an hour, at the newest sample: no extrapolation on the right, nor on the left from a 0."""
    samples = prometheus.samples(selector)
    return prometheus.value(f"increase({selector}[1h])", at=samples[-1][0]) if len(samples) > 1 else None


def test_promql_returns_the_right_numbers(
    redis_own: Server,
    jobs: Any,
    start_exporter: Callable[..., ExporterProcess],
    start_prometheus: StartPrometheus,
) -> None:
    # a server of its own: kombu's global pools remember what was declared at a URL, and a flush removes the binding
    with Celery(broker=redis_own.url) as app:
        for queue, n in {"emails": 3, "images": 2}.items():
            for _ in range(n):
                app.send_task("send", queue=queue)
    jobs.enqueue("bill", 5)
    gone = {"name": "gone", "adapter": "celery", "url": "redis://127.0.0.1:1/0"}
    exporter = start_exporter({"name": "shop", "adapter": "celery", "url": redis_own.url}, jobs.source, gone)
    prometheus = start_prometheus(exporter)

    (target,) = prometheus.targets()
    assert target["lastError"] == ""
    assert prometheus.query('sum by (source, queue) (taskq_tasks{state="ready"})') == {
        frozenset({("source", "shop"), ("queue", "emails")}): 3,
        frozenset({("source", "shop"), ("queue", "images")}): 2,
        frozenset({("source", "billing"), ("queue", "bills")}): 5,
    }
    assert prometheus.query("sum by (source) (taskq_source_up)") == {
        frozenset({("source", "shop")}): 1,
        frozenset({("source", "billing")}): 1,
        frozenset({("source", "gone")}): 0,
    }

    def numbers() -> dict[str, float | None]:
        done, failed = FINISHED % ("bill", "succeeded"), FINISHED % ("bad", "failed")
        left = prometheus.value('sum(taskq_tasks{source="billing",state="ready"})')
        runs = prometheus.value("sum(taskq_task_run_duration_seconds_count)")
        return {"left": left, "done": increase(prometheus, done), "failed": increase(prometheus, failed), "runs": runs}

    # the very first failure of a task must show in increase()
    jobs.enqueue("bad", 1)
    jobs.work(6)
    expected = {"left": 0, "done": 5, "failed": 1, "runs": 6}
    prometheus.until(lambda: numbers() == expected, f"{expected} instead of {numbers()}", seconds=20)


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL"])
def test_a_restart_neither_loses_nor_repeats(
    way: str, jobs: Any, start_exporter: Callable[..., ExporterProcess], start_prometheus: StartPrometheus
) -> None:
    """The exporter ends three times in the middle of work; a cursor over durable facts continues exactly."""
    n = 240
    good, bad = FINISHED % ("bill", "succeeded"), FINISHED % ("bad", "failed")
    exporter = start_exporter(jobs.source, state=True)
    prometheus = start_prometheus(exporter)
    for _ in range(n // 10):
        jobs.enqueue("bill", 9)
        jobs.enqueue("bad", 1)
    wait = jobs.work_beside(n, workers=4, pause=0.15)
    for _ in range(3):
        time.sleep(2)  # scrapes at any moment of the work
        exporter.stop() if way == "SIGTERM" else exporter.kill()
        assert exporter.status == (0 if way == "SIGTERM" else -9), exporter.log
        time.sleep(0.5)
        exporter.start()
    wait()

    truth = {good: n * 9 // 10, bad: n // 10}
    for selector, total in truth.items():
        prometheus.until(lambda s=selector, t=total: [v for _, v in prometheus.samples(s)][-1:] == [t], selector)
        samples = prometheus.samples(selector)
        assert [v for _, v in samples] == sorted(v for _, v in samples), "a counter went back"
        assert samples[0][1] == 0
        assert prometheus.value(f"resets({selector}[1h])") == 0
        assert increase(prometheus, selector) == total
        # at no moment did anybody see more than there ever was
        for at in {t for t, _ in samples[1:]}:
            assert (prometheus.value(f"increase({selector}[1h])", at=at) or 0) <= total
    page = exporter.page()
    assert page.by("taskq_tasks_finished_total", "outcome", source="billing") | {("x",): 0} == {
        ("succeeded",): n * 9 // 10,
        ("failed",): n // 10,
        ("x",): 0,
    }
    assert "Traceback" not in exporter.log


def test_without_state_a_restart_counts_from_0_and_never_too_much(
    jobs: Any, start_exporter: Callable[..., ExporterProcess], start_prometheus: StartPrometheus
) -> None:
    selector = FINISHED % ("bill", "succeeded")
    exporter = start_exporter(jobs.source)
    prometheus = start_prometheus(exporter)
    jobs.enqueue("bill", 12)
    jobs.work(6)
    prometheus.until(lambda: increase(prometheus, selector) == 6, "the first six")
    exporter.kill()
    jobs.work(2)  # nobody watches
    exporter.start()
    prometheus.until(lambda: exporter.page().value("taskq_source_follower_up", source="billing") == 1, "following")
    jobs.work(4)
    prometheus.until(lambda: [v for _, v in prometheus.samples(selector)][-1:] == [4], "the last four")
    assert 6 <= (increase(prometheus, selector) or 0) <= 12
