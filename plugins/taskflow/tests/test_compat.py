"""The names with a colon of TaskFlow's own guide: a real Prometheus makes them of what it scraped of both servers."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from taskflow_project import TaskFlow, clock

from taskq_exporter.mixin.guide import guide_records, guide_rules
from taskq_exporter.mixin.rules import recording_rules
from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus
from taskq_exporter.testing.watch import config_file

DEPTH = "sum by (priority) (task_queue:queue_depth)"
#: What the guide's alerts and objectives compare with a number.
ASKED = (
    DEPTH,
    "sum(task_queue:failure_rate) / sum(task_queue:completion_rate)",
    'sum(workers:total{status="active"})',
    "count by (worker_id) (worker:uptime_seconds)",
    "min(database:pool_connections_available)",
    "histogram_quantile(0.99, sum by (le) (rate(task_queue:processing_time_seconds_bucket[1m])))",
    "sum(workers:healthy) / sum(workers:total)",
)

#: A row tells its last try alone.
NOT_TOLD = {"task_queue:retry_rate"}


def test_every_name_of_the_guide_has_data(flow: TaskFlow, postgres_dsn: str, redis_url: str, tmp_path: Path) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", **parts})
    source = {"adapter": "taskflow", "url": url, "redis_url": redis_url, "poll_interval": "200ms", "duty_cycle": None}
    file = config_file(tmp_path, {"name": "flow", **source}, {"name": "machine", "adapter": "host"})
    flow.register("w1", load=1, capacity=4)
    flow.register("w2", "PAUSED")
    for priority, n in ((9, 3), (5, 2), (1, 1)):
        for _ in range(n):
            flow.create("mail", priority)

    def work(n: int) -> None:
        for status in ("COMPLETED", "FAILED", "TIMEOUT"):
            task = flow.row("mail", 9, status="RUNNING", started_at=clock(-5))
            flow.update(task, status=status, completed_at=clock())
        flow.measure(
            "w1", total_tasks=10 * n, total_errors=n, total_duration=5 * n, start_time=clock(-60).isoformat(),
            restart_count=2,
        )  # fmt: skip

    with ExporterProcess(file) as exporter:
        target = [{"job_name": "taskq", "static_configs": [{"targets": [exporter.address]}]}]
        with Prometheus(target, recording_rules(), guide_rules()) as prometheus:
            prometheus.until(lambda: prometheus.value("taskq_source_follower_up") == 1, "it follows")
            empty = {record.name for record in guide_records()} | set(ASKED)
            for n in range(1, 31):
                work(n)
                empty -= {query for query in empty if prometheus.query(query)}
                if empty <= NOT_TOLD:
                    break
                time.sleep(1)
            assert empty == NOT_TOLD
            depth = {dict(labels)["priority"]: n for labels, n in prometheus.query(DEPTH).items()}
            assert depth == {"high": 3, "normal": 2, "low": 1}
            assert prometheus.value('sum(workers:total{status="active"})') == 1
            assert prometheus.value('sum(workers:total{status="paused"})') == 1
            assert prometheus.value('worker:utilization_percent{worker_id="w1"}') == 25
            assert prometheus.value('worker:restart_count{worker_id="w1"}') == 1
            wrong = prometheus.query("count by (rule_group) (prometheus_rule_evaluation_failures_total > 0)")
            assert wrong == {}
