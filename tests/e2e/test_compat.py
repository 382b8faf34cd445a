"""Dashboards and alerts of other exporters find their numbers: a real Prometheus asks what they ask."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus

pytestmark = [
    pytest.mark.py312,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="Django 6 needs Python 3.12"),
]

#: The job's name as celery-mixin selects it, and what it leaves out.
MIXIN = 'job=~".*celery.*", queue_name!~"None", name!~"None"'
OUTCOMES = ("sent", "received", "started", "succeeded", "failed", "retried", "rejected", "revoked")


def share(part: str, *others: str) -> str:
    return f"{part} / ({' + '.join((part, *others))})"


def mixin() -> Iterator[str]:
    """What celery-mixin's two dashboards and three alerts ask for: families, selectors, functions, groups."""

    def of(what: str, by: str = "name") -> str:
        return f"sum by ({by}) (increase(celery_task_{what}_total{{{MIXIN}}}[10m]))"

    for what in OUTCOMES:
        yield of(what)
        yield f'sum(round(increase(celery_task_{what}_total{{job="celery", queue_name=~"fast|celery"}}[1m])))'
    for by in ("exception", "name, exception"):
        yield f"round({of('failed', by)} > 0)"
    yield f"{share(of('succeeded', 'job'), of('failed', 'job'))} > -1"
    mean = "sum by (name) (rate(celery_task_runtime_{}{{{}}}[1m]))"
    yield f"{mean.format('sum', MIXIN)} / {mean.format('count', MIXIN)} > 0"
    for quantile in (0.5, 0.95, 0.99, 0.999):
        bucket = f"rate(celery_task_runtime_bucket{{{MIXIN}}}[1m]) > 0"
        yield f"histogram_quantile({quantile}, sum by (job, name, le) ({bucket}))"
    yield 'count(celery_worker_up{job="celery"} == 1)'
    yield 'sum(celery_worker_tasks_active{job="celery"})'
    alert = "job, namespace, queue_name, name"
    yield f"{share(of('failed', alert), of('succeeded', alert))} * 100 > 5"
    yield 'sum by (job, namespace, queue_name) (celery_queue_length{job=~".*celery.*", queue_name!~"None"}) >= 0'
    yield 'celery_worker_up{job=~".*celery.*"}'  # == 0 of a worker that is gone
    # what its dashboards do not show
    yield "histogram_quantile(0.95, sum by (queue_name, le) (rate(celery_task_queue_wait_time_bucket[1m])))"
    for family in ("active_worker_count", "active_process_count", "active_consumer_count"):
        yield f'celery_{family}{{queue_name="fast"}} > 0'


def flower() -> Iterator[str]:
    for kind in ("sent", "received", "started", "succeeded", "failed", "retried"):
        yield f'sum by (task) (rate(flower_events_total{{type="task-{kind}"}}[1m])) > 0'
    yield 'sum by (worker) (flower_events_total{worker=~"celery@.*"})'
    yield "histogram_quantile(0.95, sum by (worker, task, le) (rate(flower_task_runtime_seconds_bucket[1m])))"
    yield "sum by (worker, task) (flower_task_prefetch_time_seconds)"
    for family in ("online", "number_of_currently_executing_tasks", "prefetched_tasks"):
        yield f"sum by (worker) (flower_worker_{family})"


def pools() -> Iterator[str]:
    """The guide on worker pools."""
    job = 'job="pools"'
    for what in ("received", "started", "succeeded", "failed", "retried", "rejected"):
        yield f"sum by (worker, task_name) (rate(celery_task_{what}_total{{{job}}}[1m]))"
    yield f"sum by (status) (celery_tasks_total{{{job}}})"
    for family in ("duration", "runtime"):
        bucket = f"celery_task_{family}_seconds_bucket{{{job}}}"
        yield f"histogram_quantile(0.95, sum by (task_name, le) (rate({bucket}[1m]))) > 0"
    yield f"sum by (worker) (celery_worker_tasks_active{{{job}}})"
    yield f"celery_worker_up{{{job}}}"  # the alert: == 0
    yield f"sum by (worker) (rate(celery_task_failed_total{{{job}}}[1m])) > 0"


def pubsub() -> Iterator[str]:
    """The guide on a pub/sub allocator: what Celery tells, and what the allocator does."""
    job = 'job="pubsub"'
    for what in ("started", "succeeded"):
        yield f"sum by (task_name, queue) (rate(celery_task_{what}_total{{{job}}}[1m])) > 0"
    yield f'sum by (exception_type) (rate(celery_task_failed_total{{{job}, exception_type!=""}}[1m])) > 0'
    yield f"histogram_quantile(0.95, sum by (le, status) (rate(celery_task_duration_seconds_bucket{{{job}}}[1m])))"
    yield f"celery_queue_length{{{job}}}"
    for family in ("worker_active_tasks", "worker_reserved_tasks", "worker_pool_size", "queue_consumers"):
        yield f"celery_{family}{{{job}}}"
    # what the allocator does, by another source
    yield f'celery_queue_length{{{job}, queue_name="orders"}} == 2'
    yield f'celery_worker_pool_size{{{job}, worker_name="w1"}} == 4'
    yield f'sum by (channel, type) (rate(celery_redis_pubsub_messages_total{{{job}, type="task_published"}}[1m])) > 0'
    yield f'sum by (queue, worker) (rate(celery_task_allocation_total{{{job}, allocation_method="direct"}}[1m])) > 0'
    for family, by in (("redis_pubsub_latency", "channel"), ("task_allocation_duration", "allocation_method")):
        yield f"histogram_quantile(0.95, sum by (le, {by}) (rate(celery_{family}_seconds_bucket{{{job}}}[1m]))) > 0"


def counted(works: int) -> dict[str, dict[tuple[str, ...], int]]:
    """What stands on each page after so much work: a name, labels, and the sum of all series that have them."""
    sent, ended, failed = 35 * works, 25 * works, 5 * works  # a flaky one is sent, received and run twice
    return {
        "celery": {
            ("celery_task_sent_total",): sent,
            ("celery_task_received_total",): sent,
            ("celery_task_succeeded_total",): ended,
            ("celery_task_failed_total", "exception=ValueError"): failed,
            ("celery_task_retried_total",): failed,
            ("flower_events_total", "type=task-sent"): sent,
            ("flower_events_total", "type=task-succeeded"): ended,
            ("flower_task_runtime_seconds_count",): ended,
            ("django_tasks_enqueued_total", "queue=mails"): 9 * works,
            ("django_tasks_completed_total", "backend=default", "queue=mails"): 6 * works,
            ("django_tasks_failed_total", "backend=default", "queue=mails"): 3 * works,
            ("django_tasks_duration_seconds_count", "status=FAILED"): 3 * works,
            ("django_tasks_queue_length", "queue=all", "status=SUCCESSFUL"): 6 * works,
            ("django_tasks_queue_length", "queue=all", "status=READY"): 1,
            ("django_tasks_running",): 0,
        },
        "pools": {
            ("celery_tasks_total", "status=success"): ended,
            ("celery_tasks_total", "status=failure"): failed,
            ("celery_tasks_total", "status=retry"): failed,
            ("celery_task_started_total",): sent,
            ("celery_task_rejected_total",): 0,
            ("celery_task_duration_seconds_count",): sent,
            ("celery_task_runtime_seconds_count",): ended,
        },
        "pubsub": {
            ("celery_task_started_total", "queue=fast"): sent,
            ("celery_task_succeeded_total", "queue=fast"): ended,
            ("celery_task_failed_total", "exception_type=ValueError"): failed,
            ("celery_task_duration_seconds_count", "status=failure"): failed,
            ("celery_redis_pubsub_messages_total", "type=task_published"): works,
            ("celery_task_allocation_total", "worker=w1", "queue=orders"): works,
            ("celery_queue_length", "queue_name=orders"): 2,
            ("celery_worker_pool_size",): 4 + 4,
        },
    }


class Allocator:
    """Publishes as the guide's does."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)
        worker = {"name": "w1", "queues": '["orders"]', "status": "active", "pool_size": 4}
        self.redis.hset("workers:w1", mapping=worker)  # type: ignore[arg-type]
        self.redis.rpush("queue:orders", "task", "task")

    def allocate(self) -> None:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        task = {"task_name": "t", "queue": "orders", "data": {}, "priority": 5, "timestamp": now}
        self.redis.publish("tasks:orders", json.dumps({**task, "allocation_method": "pubsub"}))
        given = {"task_name": "t", "queue": "orders", "allocated_at": now, "allocation_method": "direct"}
        self.redis.publish("worker:w1", json.dumps(given))


def django() -> Iterator[str]:
    """The guide of django-tasks-redis: panels and alerts."""
    rate = "sum by (backend, queue) (rate(django_tasks_{}_total[1m]))"
    for what in ("enqueued", "completed", "failed"):
        yield f"{rate.format(what)} * 60 > 0"
    yield share(rate.format("completed"), rate.format("failed"))
    yield f"{share(rate.format('failed'), rate.format('completed'))} > 0.1"
    yield 'rate(django_tasks_enqueued_total{backend="default", queue="mails", priority!=""}[1m])'
    for status in ("READY", "RUNNING", "SUCCESSFUL", "FAILED"):
        yield f'django_tasks_queue_length{{backend="default", queue="all", status="{status}"}}'
    yield 'django_tasks_queue_length{queue="default", status="READY"} > 0'
    yield "sum by (queue) (django_tasks_running)"
    bucket = 'django_tasks_duration_seconds_bucket{status="SUCCESSFUL"}'
    yield f"histogram_quantile(0.95, sum by (le, queue) (rate({bucket}[1m])))"
    yield "rate(django_tasks_duration_seconds_sum[1m]) / rate(django_tasks_duration_seconds_count[1m])"
    yield "sum by (backend) (increase(django_tasks_completed_total[10m]))"  # the alert: == 0


@pytest.mark.timeout(240)
def test_every_query_finds_something(apps: Any, start_exporter: Callable[..., ExporterProcess]) -> None:
    shop = {"name": "shop", "adapter": "celery", "url": apps.env["BROKER"]}
    web = {"name": "web", "adapter": "django_tasks_redis", "url": apps.env["REDIS"], "poll_interval": "500ms"}
    allocator = {"name": "allocator", "adapter": "redis_pubsub", "url": apps.env["REDIS"], "worker_interval": "1s"}
    publisher = Allocator(apps.env["REDIS"])
    jobs = {
        "celery": [{**shop, "compat": ["celery-exporter", "flower"]}, {**web, "compat": ["django-tasks-redis"]}],
        "pools": [{**shop, "compat": ["celery-pools"]}],
        "pubsub": [{**shop, "compat": ["celery-pubsub"]}, {**allocator, "compat": ["celery-pubsub"]}],
    }
    exporters = {job: start_exporter(*sources) for job, sources in jobs.items()}
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [exporter.address]}]} for job, exporter in exporters.items()
    ]
    apps.celery_worker("fast,celery")
    prometheus = Prometheus(scrapes)
    try:
        prometheus.until(lambda: prometheus.value("sum(celery_worker_up)") == 2, "the worker is seen", 60)
        prometheus.until(lambda: prometheus.value("sum(taskq_source_follower_up)") == 5, "all follow", 60)
        works = 0

        def work() -> None:
            nonlocal works
            works += 1
            publisher.allocate()
            for name, n in (("good", "20"), ("bad", "5"), ("flaky", "5")):
                apps.run("celery_send", "fast", f"shop.{name}", n)
            apps.run("django_send", "mails", "good", "6")
            apps.run("django_send", "mails", "bad", "3")
            apps.run("django_work", "mails")

        apps.run("django_send", "default", "good", "1")
        work()
        asked = {guide.__name__: set(guide()) for guide in (mixin, flower, pools, pubsub, django)}
        for _ in range(20):
            for queries in asked.values():
                queries -= {query for query in queries if prometheus.query(query)}
            if not any(asked.values()):
                break
            work()
        assert not any(asked.values()), (asked, exporters["celery"].page().text)

        def told() -> dict[str, dict[tuple[str, ...], float]]:
            pages = {job: exporter.page() for job, exporter in exporters.items()}
            return {
                job: {
                    what: pages[job].total(what[0], **dict(label.split("=") for label in what[1:])) for what in expected
                }
                for job, expected in counted(works).items()
            }

        with contextlib.suppress(AssertionError):  # to tell what differs
            prometheus.until(lambda: told() == counted(works), "all is counted")
        assert told() == counted(works)
    finally:
        prometheus.close()
        publisher.redis.close()
