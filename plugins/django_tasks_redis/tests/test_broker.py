"""What the page says of the Redis server: to the user of `grants`, without the right to INFO, and where nobody asks."""

from __future__ import annotations

import shlex

import pytest
import redis
from taskq_exporter_django_tasks_redis import adapter
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

from taskq_exporter.api import Source
from taskq_exporter.testing import Page, Server
from taskq_exporter.testing.watch import watch

BY_INFO = [
    "taskq_broker_memory_bytes",
    "taskq_broker_memory_limit_bytes",
    "taskq_broker_connections",
    "taskq_broker_connections_limit",
    "taskq_broker_commands_total",
]


def user_url(server: Server, *, without: str = "") -> str:
    """The URL of a user with what `grants` prints, less one right."""
    source = Source(name="s", adapter="django_tasks_redis", url=str, options=DjangoTasksRedisOptions())
    words = shlex.split(adapter.grants(source).replace("PASSWORD", "pw"), comments=True)
    line = [word.replace(f" {without} ", " ") for word in words] if without else words
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "DELUSER", "taskq_exporter")
        admin.execute_command(*line)
    return server.url.replace("redis://", "redis://taskq_exporter:pw@")


async def page_of(url: str, **options: object) -> Page:
    source = {"adapter": "django_tasks_redis", "url": url, "queues": {"expected": ["emails"]}, **options}
    async with watch(source) as watched:
        return await watched.page()


def shown(page: Page) -> list[str]:
    return [family for family in BY_INFO if page.values(family)]


async def test_with_the_grants_it_is_told(redis_own: Server) -> None:
    url = user_url(redis_own)
    page = await page_of(url)
    assert shown(page) == [family for family in BY_INFO if "limit_bytes" not in family]  # none is set
    assert page.value("taskq_source_problems") == 0
    before = page.value("taskq_broker_commands_total", command="xinfo") or 0
    with redis.Redis.from_url(redis_own.url) as client:
        client.config_set("maxmemory", "64mb")
        for _ in range(5):
            client.xadd("stream", {"a": "b"})
            client.xinfo_stream("stream")
    page = await page_of(url)
    assert shown(page) == BY_INFO
    assert page.value("taskq_broker_memory_limit_bytes") == 64 * 1024 * 1024
    assert page.value("taskq_broker_commands_total", command="xadd") == 5
    assert page.value("taskq_broker_commands_total", command="xinfo") >= before + 5


@pytest.mark.parametrize("disable", [[], BY_INFO])
async def test_without_the_right_the_queues_are_told(redis_own: Server, disable: list[str]) -> None:
    page = await page_of(user_url(redis_own, without="+info"), disable=disable)
    assert shown(page) == []
    assert page.value("taskq_source_up") == 1
    assert page.value("taskq_tasks", queue="emails", state="ready") == 0
    assert page.value("taskq_broker_roundtrip_seconds") > 0
    why = "option" if disable else "permission"
    assert all(page.value("taskq_source_capability", family=family, reason=why) == 0 for family in BY_INFO)
    # what nobody wants is not asked for, and so not refused
    assert page.value("taskq_source_problems") == (0 if disable else 1)
    assert page.value("taskq_source_errors_total", reason="permission") == (0 if disable else 1)
