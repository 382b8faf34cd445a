"""Recording rules under the names of a guide: names with a colon are no exporter's to expose.

They are those of a task queue on FastAPI, Postgres and Redis, for whoever has dashboards and alerts that read them.
"""

from __future__ import annotations

from typing import Any

from taskq_exporter.mixin.recording import AWAY, FAILED, ID, Record, by, gauge, rate

__all__ = ["NOT_KNOWN", "guide_records", "guide_rules"]

#: Its names that nothing here can tell, and why.
NOT_KNOWN = {
    "database:query_duration_seconds_bucket": "Postgres keeps no histogram; taskq_broker_slow_statement_seconds is the"
    " mean of the slowest kind of statement, taskq_source_query_duration_seconds what ours take",
    "redis:keys_by_type": "it would take a look at every key",
    "task_queue:retry_rate": "of `taskflow` alone: a row tells the last try only",
}

_WAITING = 'state=~"ready|scheduled|retry|blocked|reserved|running"'
_QUEUE_PRIORITIES = 'queue=~"high|medium|normal|low"'
_LIVE = 'state=~"idle|busy|paused|draining"'


def guide_rules() -> dict[str, Any]:
    """The file of these rules, which needs that of recording rules."""
    rules = [{"record": record.name, "expr": record.expression} for record in guide_records()]
    return {"groups": [{"name": "taskq-guide", "rules": rules}]}


def guide_records() -> list[Record]:
    """Every rule: rates are a minute, percentages of 100, and all are told by source."""
    return [*_tasks(), *_workers(), *_host(), *_servers()]


def _tasks() -> list[Record]:
    finished = rate("taskq_tasks_finished_total")
    enqueued = f"sum {by()} ({rate('taskq_tasks_enqueued_total')})"
    # where nobody counts what is put in: what came out, and by how much the rest grew
    balance = f"clamp_min(sum {by()} ({finished}) + sum {by()} (deriv({gauge('taskq_tasks')}{{{_WAITING}}}[5m])), 0)"
    retried = f"sum {by()} ({rate('taskq_tasks_retried_total')})"
    ready = f'{gauge("taskq_tasks")}{{{_QUEUE_PRIORITIES}, state="ready"}}'
    of_queue = _relabel(_relabel(ready, "priority", "queue", "(.*)"), "priority", "queue", "medium", "normal")
    of_level = f'{gauge("taskq_tasks_by_priority")}{{state="ready"}}'
    return [
        Record("task_queue:submission_rate", f"60 * ({enqueued} or {balance})"),
        Record("task_queue:completion_rate", f'60 * sum {by()} ({finished}{{outcome="succeeded"}})'),
        Record("task_queue:failure_rate", f"60 * sum {by()} ({finished}{{{FAILED}}})"),
        Record("task_queue:retry_rate", f"60 * {retried}"),
        Record("task_queue:timeout_rate", f'60 * sum {by()} ({finished}{{outcome="timed_out"}})'),
        *_histogram("task_queue:processing_time_seconds", "taskq_task_run_duration_seconds"),
        Record(
            "task_queue:queue_depth",
            f"sum {by('priority')} ({of_level}) or sum {by('priority')} ({of_queue})",
        ),
    ]


def _workers() -> list[Record]:
    states = f"{gauge('taskq_workers')}{{{_LIVE}}}"
    status = _relabel(
        _relabel(states, "status", "state", "idle|busy", "active"), "status", "state", "(paused|draining)"
    )
    finished = rate("taskq_worker_tasks_finished_total")
    each = f"sum {by('worker')} ({finished})"
    busy = f"sum {by('worker')} (max without ({AWAY}) (rate(taskq_worker_busy_seconds_total[5m])))"
    running = f'sum {by("worker")} ({gauge("taskq_worker_tasks")}{{state="running"}})'
    slots = f"sum {by('worker')} ({gauge('taskq_worker_slots')}) > 0"
    failed = f"sum {by('worker')} ({finished}{{{FAILED}}})"
    started = gauge("taskq_worker_start_timestamp_seconds")
    return [
        Record("workers:total", f"sum {by('status')} ({status})"),
        Record("workers:healthy", f"sum {by()} ({states})"),
        Record("worker:utilization_percent", _worker_id(f"100 * {running} / ({slots})")),
        Record("worker:task_rate", _worker_id(f"60 * {each}")),
        Record("worker:avg_duration_seconds", _worker_id(f"{busy} / ({each} > 0)")),
        Record("worker:error_rate", _worker_id(f"({failed} or 0 * {each}) / ({each} > 0)")),
        Record("worker:uptime_seconds", _worker_id(f"time() - {started}")),
        Record("worker:restart_count", _worker_id(f"max without ({AWAY}) (taskq_worker_restarts_total)")),
    ]


def _host() -> list[Record]:
    """Needs a source of the adapter host."""
    cpu = f"max without ({AWAY}) (rate(taskq_host_cpu_seconds_total{{}}[5m]))"
    at_rest = cpu.replace("{}", '{mode=~"idle|iowait"}')
    memory = f"max without ({AWAY}) (taskq_host_memory_bytes{{}})"
    disk = f"max without ({AWAY}) (taskq_host_disk_bytes{{}})"
    network = f"max without ({AWAY}) (taskq_host_network_bytes_total{{}})"

    def used(family: str, *labels: str) -> str:
        part = family.replace("{}", '{state="used"}')
        return f"100 * sum {by(*labels)} ({part}) / sum {by(*labels)} ({family})"

    return [
        Record("system:cpu_usage_percent", f"100 - 100 * sum {by()} ({at_rest}) / sum {by()} ({cpu})"),
        Record("system:memory_usage_percent", used(memory)),
        Record("system:disk_usage_percent", used(disk, "mount")),
        Record("system:network_in_bytes", network.replace("{}", '{direction="received"}')),
        Record("system:network_out_bytes", network.replace("{}", '{direction="sent"}')),
    ]


def _servers() -> list[Record]:
    connections = gauge("taskq_broker_connections")
    in_use = f'{connections}{{state!="idle"}}'
    limit = gauge("taskq_broker_connections_limit")
    commands = f"max without ({AWAY}) (taskq_broker_commands_total)"
    return [
        Record(
            "database:pool_connections_in_use",
            _of("postgresql", f"sum {by()} ({in_use})"),
        ),
        Record("database:pool_connections_available", _of("postgresql", f"{limit} - sum {by()} ({connections})")),
        Record("database:queries_total", _relabel(_of("postgresql", commands), "type", "command", "(.*)")),
        Record(
            "redis:connected_clients",
            f"{_of('redis|valkey', f'sum {by()} ({connections})')} or sum {by()} ({_of_taskflow('connections')})",
        ),
        Record("redis:memory_bytes", gauge("taskq_broker_memory_bytes")),
        Record("redis:commands_total", f"{_of('redis|valkey', commands)} or {_of_taskflow('commands_total')}"),
    ]


def _histogram(name: str, family: str) -> list[Record]:
    return [Record(f"{name}_{part}", f"max without ({AWAY}) ({family}_{part})") for part in ("bucket", "sum", "count")]


def _relabel(expression: str, label: str, source: str, pattern: str, to: str = "$1") -> str:
    return f'label_replace({expression}, "{label}", "{to}", "{source}", "{pattern}")'


def _worker_id(expression: str) -> str:
    return _relabel(expression, "worker_id", "worker", "(.*)")


def _of_taskflow(what: str) -> str:
    """Of the Redis of sources on two servers."""
    return f"max without ({AWAY}) (taskq_taskflow_redis_{what})"


def _of(servers: str, expression: str) -> str:
    """Only of sources on such a server."""
    server = f'max {by()} ({gauge("taskq_source_info")}{{server=~"{servers}"}})'
    return f"{expression} and on ({ID}) {server}"
