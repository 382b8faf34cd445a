"""Every query of every dashboard, in a real Prometheus that scrapes real exporters of queues that really work."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from taskq_exporter.mixin.alerts import alerts
from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.rules import Site, alert_rules, recording_rules
from taskq_exporter.mixin.thresholds import Thresholds
from taskq_exporter.testing import Server
from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus

pytestmark = [
    pytest.mark.py312,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12"),
]

#: What none of these tells: tests/mixin asks for it.
NOT_TOLD = {"taskq-queue: Paused", "taskq-source: Slowest statements"}
BACKLOG = 7


def scraped(**exporters: ExporterProcess) -> list[dict[str, Any]]:
    """Exporters by the namespace in which Prometheus finds them; NAMESPACE_2 is a second one there."""
    static = [
        {"targets": [exporter.address], "labels": {"namespace": name.partition("_")[0]}}
        for name, exporter in exporters.items()
    ]
    return [{"job_name": "taskq", "static_configs": static}]


def test_every_panel_shows_data(
    apps: Any, jobs: Any, redis_own: Server, start_exporter: Callable[..., ExporterProcess]
) -> None:
    with redis.Redis.from_url(redis_own.url) as client:
        client.config_set("maxmemory", "500mb")
    sources = [
        {
            "name": "shop",
            "adapter": "celery",
            "url": apps.env["BROKER"],
            "annotations": {"team": "growth"},
            "task_labels": ["queue", "task", "worker"],
            "objectives": [{"queue": "fast", "start_within": "30s", "ratio": 0.99}],
            "inspect_interval": "2s",
            "discovery_interval": "2s",
        },
        {"name": "web", "adapter": "django_tasks_redis", "url": apps.env["REDIS"], "poll_interval": "500ms"},
        jobs.source,
        {"name": "allocator", "adapter": "redis_pubsub", "url": redis_own.url},
        {"name": "machine", "adapter": "host"},
    ]
    one, other = start_exporter(*sources), start_exporter(*sources)
    rules = recording_rules(), alert_rules(Thresholds(), Site())
    configs = scraped(prod=one, prod_2=other, staging=one)
    apps.celery_worker("fast,slow", "-n", "busy@here")
    apps.celery_beat()
    with Prometheus(configs, *rules) as prometheus:
        prometheus.until(lambda: prometheus.value("count(taskq_source_follower_up == 1)") == 12, "all follow")
        apps.run("django_send", "mails", "good", "3")
        apps.run("django_later", "mails", "good", "1")
        apps.run("celery_send", "nobody", "shop.good", str(BACKLOG))
        apps.run("celery_send", "slow", "shop.slow", "3")
        for _ in range(4):
            for task in ("good", "bad", "flaky"):
                apps.run("celery_send", "fast", f"shop.{task}", "3")
            jobs.enqueue("bill", 3)
            jobs.work(2)
            apps.run("django_send", "default", "bad", "1")
            apps.run("django_work", "default")
            publish(redis_own.url)

        panels = {
            f"{board.uid}: {panel.title}": [chosen(query.expression) for query in panel.queries]
            for board in DASHBOARDS
            for row in board.rows
            for panel in row.panels
        }

        def empty() -> set[str]:
            return {
                f"{name}: {query}"
                for name, queries in panels.items()
                for query in queries
                if name not in NOT_TOLD and not prometheus.query(query)
            }

        prometheus.until(lambda: not empty(), f"data for {empty()}", seconds=60)

        # two exporters of one source in prod, one of them in staging too
        backlog = 'taskq:queue_ready:sum{source="shop",queue="nobody"}'
        assert {dict(labels)["namespace"]: n for labels, n in prometheus.query(backlog).items()} == {
            "prod": BACKLOG,
            "staging": BACKLOG,
        }
        infos = prometheus.query('taskq:source_annotations_info:max{namespace="prod"}')
        assert {(dict(labels)["source"], dict(labels).get("label_team")) for labels in infos} == {
            ("shop", "growth"),
            ("web", None),
            ("billing", None),
            ("allocator", None),
            ("machine", None),
        }
        # the second one goes: nothing changes
        other.stop()
        time.sleep(3)
        assert set(prometheus.query(backlog).values()) == {BACKLOG}
        assert not empty()
        wrong = prometheus.query("count by (rule_group) (prometheus_rule_evaluation_failures_total > 0)")
        assert wrong == {}
        for alert in alerts(Thresholds()):
            prometheus.query(alert.expression)  # fails where it is refused


def publish(url: str) -> None:
    """As an allocator does: a task on its queue's channel, and then on that of a worker."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    task = {"task_name": "send", "queue": "mails", "data": {}, "priority": 5, "timestamp": now}
    given = {"task_name": "send", "queue": "mails", "allocated_at": now, "allocation_method": "direct"}
    with redis.Redis.from_url(url) as client:
        client.publish("tasks:mails", json.dumps(task))
        client.publish("worker:w1", json.dumps(given))


def chosen(expression: str) -> str:
    """A query with every variable at All, of a minute or two."""
    expression = expression.replace("$__rate_interval", "30s").replace("$__range:1m", "5m:1s")
    return re.sub(r"\$[a-z]+", ".*", expression)
