"""The rules under a guide's names, told what a task queue, its workers, its servers and its machine say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from told import known_families, promtool, series

from taskq_exporter.mixin.guide import guide_records, guide_rules

GUIDE = [
    "task_queue:submission_rate",
    "task_queue:completion_rate",
    "task_queue:failure_rate",
    "task_queue:retry_rate",
    "task_queue:timeout_rate",
    "task_queue:processing_time_seconds_bucket",
    "task_queue:queue_depth",
    "workers:total",
    "workers:healthy",
    "worker:utilization_percent",
    "worker:task_rate",
    "worker:avg_duration_seconds",
    "worker:error_rate",
    "worker:uptime_seconds",
    "worker:restart_count",
    "system:cpu_usage_percent",
    "system:memory_usage_percent",
    "system:disk_usage_percent",
    "system:network_in_bytes",
    "system:network_out_bytes",
    "database:pool_connections_in_use",
    "database:pool_connections_available",
    "database:queries_total",
    "redis:connected_clients",
    "redis:memory_bytes",
    "redis:commands_total",
]


def of(family: str, **labels: str) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in {"source": "shop", **labels}.items())
    return f"{family}{{{told}}}"


TOLD = {
    of("taskq_tasks_enqueued_total", queue="high", task="t", priority=""): "0+90x60",
    of("taskq_tasks_finished_total", queue="high", task="t", outcome="succeeded"): "0+54x60",
    of("taskq_tasks_finished_total", queue="high", task="t", outcome="failed"): "0+3x60",
    of("taskq_tasks_finished_total", queue="high", task="t", outcome="timed_out"): "0+3x60",
    of("taskq_tasks_retried_total", queue="high", task="t"): "0+6x60",
    of("taskq_task_run_duration_seconds_bucket", queue="high", task="t", outcome="succeeded", le="5.0"): "0+54x60",
    of("taskq_task_run_duration_seconds_bucket", queue="high", task="t", outcome="succeeded", le="+Inf"): "0+54x60",
    of("taskq_tasks", queue="high", state="ready"): "7x60",
    of("taskq_tasks", queue="medium", state="ready"): "5x60",
    of("taskq_workers", state="idle"): "2x60",
    of("taskq_workers", state="busy"): "3x60",
    of("taskq_workers", state="paused"): "1x60",
    of("taskq_workers", state="offline"): "4x60",
    of("taskq_worker_tasks", worker="w1", state="running"): "2x60",
    of("taskq_worker_slots", worker="w1"): "5x60",
    of("taskq_worker_tasks_finished_total", worker="w1", outcome="succeeded"): "0+45x60",
    of("taskq_worker_tasks_finished_total", worker="w1", outcome="failed"): "0+15x60",
    of("taskq_worker_busy_seconds_total", worker="w1"): "0+30x60",
    of("taskq_worker_start_timestamp_seconds", worker="w1"): "0x60",
    of("taskq_worker_restarts_total", worker="w1"): "2x60",
    of("taskq_host_cpu_seconds_total", mode="idle"): "0+45x60",
    of("taskq_host_cpu_seconds_total", mode="user"): "0+15x60",
    of("taskq_host_memory_bytes", state="used"): "30x60",
    of("taskq_host_memory_bytes", state="available"): "70x60",
    of("taskq_host_disk_bytes", mount="/", state="used"): "90x60",
    of("taskq_host_disk_bytes", mount="/", state="free"): "10x60",
    of("taskq_host_network_bytes_total", device="eth0", direction="received"): "0+60x60",
    of("taskq_host_network_bytes_total", device="eth0", direction="sent"): "0+30x60",
    of("taskq_source_info", adapter="taskflow", server="postgresql", server_version="15"): "1x60",
    of("taskq_broker_connections", state="active"): "3x60",
    of("taskq_broker_connections", state="idle"): "5x60",
    of("taskq_broker_connections_limit"): "100x60",
    of("taskq_broker_commands_total", command="commit"): "0+60x60",
    of("taskq_broker_memory_bytes"): "1000x60",
    'taskq_source_info{source="cache",adapter="celery",server="redis",server_version="7"}': "1x60",
    'taskq_broker_connections{source="cache",state="normal"}': "4x60",
    'taskq_broker_commands_total{source="cache",command="get"}': "0+60x60",
    'taskq_taskflow_redis_connections{source="flow",state="connected"}': "2x60",
    'taskq_taskflow_redis_connections{source="flow",state="blocked"}': "1x60",
    'taskq_taskflow_redis_commands_total{source="flow",command="get"}': "0+30x60",
    # one that does not tell what is put in: ten come in a minute, and four go out
    'taskq_tasks_finished_total{source="quiet",queue="q",task="t",outcome="succeeded"}': "0+4x60",
    'taskq_tasks{source="quiet",queue="q",state="ready"}': "0+6x60",
}

SHOP = 'job="taskq",namespace="prod",source="shop"'
EXPECTED = {
    "task_queue:submission_rate": {SHOP: 90, SHOP.replace("shop", "quiet"): 10},
    'task_queue:completion_rate{source="shop"}': {SHOP: 54},
    'task_queue:failure_rate{source="shop"}': {SHOP: 6},
    "task_queue:retry_rate": {SHOP: 6},
    "task_queue:timeout_rate": {SHOP: 3},
    "histogram_quantile(0.99, sum by (le) (rate(task_queue:processing_time_seconds_bucket[5m])))": {"": 4.95},
    "task_queue:queue_depth": {f'{SHOP},priority="high"': 7, f'{SHOP},priority="normal"': 5},
    "workers:total": {f'{SHOP},status="active"': 5, f'{SHOP},status="paused"': 1},
    "workers:healthy": {SHOP: 6},
    "worker:utilization_percent": {f'{SHOP},worker="w1",worker_id="w1"': 40},
    "worker:task_rate": {f'{SHOP},worker="w1",worker_id="w1"': 60},
    "worker:avg_duration_seconds": {f'{SHOP},worker="w1",worker_id="w1"': 0.5},
    "worker:error_rate": {f'{SHOP},worker="w1",worker_id="w1"': 0.25},
    "worker:uptime_seconds": {f'{SHOP},worker="w1",worker_id="w1"': 1800},
    "worker:restart_count": {f'{SHOP},worker="w1",worker_id="w1"': 2},
    "system:cpu_usage_percent": {SHOP: 25},
    "system:memory_usage_percent": {SHOP: 30},
    "system:disk_usage_percent": {f'{SHOP},mount="/"': 90},
    "rate(system:network_in_bytes[5m])": {f'{SHOP},device="eth0",direction="received"': 1},
    "rate(system:network_out_bytes[5m])": {f'{SHOP},device="eth0",direction="sent"': 0.5},
    "database:pool_connections_in_use": {SHOP: 3},
    "database:pool_connections_available": {SHOP: 92},
    "rate(database:queries_total[5m])": {f'{SHOP},command="commit",type="commit"': 1},
    "redis:connected_clients": {SHOP.replace("shop", "cache"): 4, SHOP.replace("shop", "flow"): 3},
    "redis:memory_bytes": {SHOP: 1000},
    "rate(redis:commands_total[5m])": {
        f'{SHOP.replace("shop", "cache")},command="get"': 1,
        f'{SHOP.replace("shop", "flow")},command="get"': 0.5,
    },
}
#: The guide's alerts, without what they are compared with.
ALERTS = (
    "sum(task_queue:queue_depth) > 1000",
    "sum(task_queue:failure_rate) / sum(task_queue:completion_rate) > 0.1",
    'sum(workers:total{status="active"}) < 1',
    "count by (worker_id) (worker:uptime_seconds) > 0",
    "database:pool_connections_available < 2",
)


def test_every_name_of_the_guide_is_there() -> None:
    assert set(GUIDE) <= {record.name for record in guide_records()}


def test_they_read_families_that_exist() -> None:
    known = known_families()
    for record in guide_records():
        for name in re.findall(r"\btaskq_[a-z0-9_]+", record.expression):
            assert re.sub("_(bucket|sum|count)$", "", name) in known, record.name


def test_two_exporters_say_what_one_says(tmp_path: Path) -> None:
    (tmp_path / "guide.yaml").write_text(yaml.safe_dump(guide_rules()))
    looks: list[dict[str, Any]] = [
        {
            "expr": f"round({expression}, 0.001)",
            "eval_time": "30m",
            "exp_samples": [{"labels": f"{{{labels}}}", "value": value} for labels, value in values.items()],
        }
        for expression, values in EXPECTED.items()
    ]
    for alert in ALERTS:
        left = re.split(" [<>] ", alert)[0]
        looks.append(
            {"expr": f"count({left}) > bool 0", "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": 1}]}
        )
    promtool(tmp_path, [{"interval": "1m", "input_series": series(TOLD, 2), "promql_expr_test": looks}], "guide.yaml")
