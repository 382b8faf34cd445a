"""Finding brokers, and what is said to people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from taskq_exporter_celery.adapter import connect, diagnose, grants
from taskq_exporter_celery.checks import detect
from taskq_exporter_celery.on_redis.urls import redis_urls
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import AdapterError, Reason, Source


def make_source(url: str, **options: Any) -> Source:
    return Source(name="test", adapter="celery", url=lambda: url, options=CeleryOptions(**options))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", ["redis://h:1/2"]),
        ("rediss://u:p@h/0?ssl_cert_reqs=CERT_NONE", ["rediss://u:p@h/0?ssl_cert_reqs=CERT_NONE"]),
        ("redis://h/0?ssl_ca_certs=ca.pem", ["rediss://h/0?ssl_ca_certs=ca.pem"]),
        ("redis://a/0;redis://b/0", ["redis://a/0", "redis://b/0"]),
        ("redis+socket:///run/redis.sock?virtual_host=3", ["unix:///run/redis.sock?db=3"]),
        ("redis+socket:///run/redis.sock", ["unix:///run/redis.sock?db=0"]),
        ("sentinel://a:1/2;sentinel://b:1", ["sentinel://a:1/2;sentinel://b:1"]),
    ],
)
def test_broker_urls(url: str, expected: list[str]) -> None:
    assert redis_urls(url) == expected


@pytest.mark.parametrize("url", ["amqp://guest:secret@h//", "redis://:secret@h;amqp://:secret@h", "", "h:6379"])
def test_other_brokers(url: str) -> None:
    with pytest.raises(AdapterError) as caught:
        redis_urls(url)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert "secret" not in str(caught.value)


def test_the_database_of_a_sentinel_url() -> None:
    assert "&/3.celeryev/*" in grants(make_source("sentinel://:p@a/3;sentinel://b", master_name="m"))


async def test_detect(redis_url: str, project: Any) -> None:
    assert [d.name for d in await detect({"CELERY_BROKER_URL": "redis://nowhere:1/0"})] == ["celery"]
    assert await detect({"REDIS_URL": redis_url}) == []
    project.declare("emails")
    assert [(d.name, d.url) for d in await detect({"REDIS_URL": redis_url})] == [("celery", redis_url)]
    same = redis_url.removesuffix("/0")
    assert len(await detect({"REDIS_URL": redis_url, "CELERY_BROKER_URL": same})) == 1
    assert len(await detect({"REDIS_URL": redis_url, "CELERY_BROKER_URL": "redis://nowhere:1/0"})) == 2
    nobody = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    assert [d.name for d in await detect({**nobody, "CELERY_BROKER_URL": redis_url})] == ["celery"]
    with pytest.raises(AdapterError):
        await detect(nobody)


def test_grants_are_no_more_than_needed(redis_url: str) -> None:
    """No key of another application, no message of a queue, nothing that writes."""
    line = grants(make_source(redis_url, global_keyprefix="app*1:", database=3))
    name = "taskq_exporter"
    allowed = [
        ("LLEN", "app*1:emails"),
        ("SCARD", "app*1:_kombu.binding.emails"),
        ("SMEMBERS", "app*1:_kombu.binding.emails"),
        ("HMGET", "app*1:unacked", "tag"),
        ("PSUBSCRIBE", r"app\*1:/3.celeryev/*"),
    ]
    refused = [
        ("LRANGE", "app*1:emails", "0", "-1"),
        ("LLEN", "app-of-another"),
        ("LLEN", "emails"),
        ("HMGET", "app*1:celery-task-meta-1", "x"),
        ("SMEMBERS", "app*1:secrets"),
        ("DEL", "app*1:emails"),
        ("PUBLISH", "app*1:/3.celeryev/task.sent", "x"),
        ("PSUBSCRIBE", "*"),
        ("CONFIG", "GET", "*"),
    ]
    import shlex

    with redis.Redis.from_url(redis_url) as client:
        client.execute_command(*shlex.split(line, comments=True))
        for command in allowed:
            assert client.execute_command("ACL", "DRYRUN", name, *command) == b"OK", command
        for command in refused:
            assert client.execute_command("ACL", "DRYRUN", name, *command) != b"OK", command


def test_the_readme_has_every_option() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    missing = [name for name in (*CeleryOptions.model_fields, *CeleryOptions.expands) if f"`{name}`" not in readme]
    assert not missing


async def test_diagnose_without_a_follower(redis_url: str, project: Any) -> None:
    source = make_source(redis_url)
    async with connect(source) as client:
        texts = [f.text for f in await diagnose(source, client)]
    assert texts == ["no queue was ever declared here", "no worker sends heartbeats"]
    project.worker("-P", "solo", worker_send_task_events=False).ready()
    async with connect(source) as client:
        findings = list(await diagnose(source, client))
    assert [f.level for f in findings] == ["ok", "note", "ok"]
    assert "-E" in findings[1].advice
