"""Jobs of one Prometheus that ask for parts of the page: each sees the same increase() as the whole page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus

FAILED = 'taskq_tasks_finished_total{source="billing",task="bad",outcome="failed",job="%s"}'
PARTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "by-source": {"params": {"collect[]": ["billing"]}},
    "by-family": {"params": {"name[]": ["taskq_tasks_finished", "taskq_source_follower_up"]}},
    "probe": {"metrics_path": "/probe", "params": {"target": ["billing"]}},
    "gauges": {"params": {"name[]": ["taskq_tasks"]}},
}


def increase(prometheus: Prometheus, job: str) -> float | None:
    """increase() over an hour at the newest sample, where there is no extrapolation from a 0."""
    samples = prometheus.samples(FAILED % job)
    return prometheus.value(f"increase({FAILED % job}[1h])", at=samples[-1][0]) if len(samples) > 1 else None


def test_every_part_of_the_page_shows_the_same_increase(
    jobs: Any, start_exporter: Callable[..., ExporterProcess]
) -> None:
    exporter = start_exporter(jobs.source, state=True)
    static = [{"targets": [exporter.address]}]
    configs = [{"job_name": job, "static_configs": static, **part} for job, part in PARTS.items()]
    counting = [job for job in PARTS if job != "gauges"]
    with Prometheus(configs) as prometheus:
        prometheus.until(lambda: prometheus.value("count(up == 1)") == len(PARTS), "each job scrapes")
        done = 0
        for n in (3, 4):
            jobs.enqueue("bad", n)
            jobs.work(n)
            done += n
            told = f"each job sees {done} failures"
            expected = [done] * len(counting)
            prometheus.until(lambda e=expected: [increase(prometheus, job) for job in counting] == e, told)
            exporter.kill()
            exporter.start()
        prometheus.until(lambda: prometheus.value("count(up == 1)") == len(PARTS), "each job scrapes again")
        prometheus.until(
            lambda: {prometheus.value(f"resets({FAILED % job}[1h])") for job in counting} == {0.0},
            "no counter goes back",
        )
        assert [increase(prometheus, job) for job in counting] == expected
        assert prometheus.query(f"{FAILED % 'gauges'}") == {}
