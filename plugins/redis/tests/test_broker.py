"""What INFO tells of a real server, and what is left of it without the right, or where it has another name."""

from __future__ import annotations

import redis
from taskq_exporter_redis import RedisClient, ServerInfo, Told
from taskq_exporter_redis.broker import MAX_COMMANDS

from taskq_exporter.api import Reason
from taskq_exporter.testing import start_redis

MEMORY = ("taskq_broker_memory_bytes", "taskq_broker_memory_limit_bytes")
CLIENTS = ("taskq_broker_connections", "taskq_broker_connections_limit")
COMMANDS = ("taskq_broker_commands_total",)


async def ask(url: str, info: ServerInfo | None = None) -> Told:
    info = info or ServerInfo()
    client = RedisClient(url, timeout=5)
    try:
        return info.told(await client.pipeline(info.commands), client.roundtrip_seconds)
    finally:
        await client.aclose()


def reasons(told: Told) -> dict[str, str]:
    return {capability.family: capability.reason for capability in told.capabilities}


async def test_it_tells_what_the_server_says(redis_own) -> None:
    with redis.Redis.from_url(redis_own.url) as client, redis.Redis.from_url(redis_own.url) as waiting:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxclients", 321)
        before = await ask(redis_own.url)
        for _ in range(7):
            client.get("key")
        client.config_get("maxmemory")
        blocked = waiting.connection_pool.get_connection()
        blocked.send_command("BLPOP", "nothing", 0)
        while client.info("clients")["blocked_clients"] != 1:
            pass
        told = await ask(redis_own.url)
        blocked.disconnect()
        client.config_set("maxmemory", 0)
        unlimited = await ask(redis_own.url)
    stats = told.stats
    assert 500_000 < (stats.memory_bytes or 0) < 100_000_000
    assert stats.memory_limit_bytes == 100 * 1024 * 1024
    assert stats.connections == {"connected": 2, "blocked": 1}  # `client` and the one that asks
    assert stats.connections_limit == 321
    assert stats.commands["get"] == before.stats.commands.get("get", 0) + 7
    assert stats.commands["config"] == before.stats.commands["config"] + 1  # SET and GET of it together
    assert (stats.roundtrip_seconds or 0) > 0
    assert not told.problems
    assert {*reasons(told).values()} == {"none"}
    assert unlimited.stats.memory_limit_bytes is None


async def test_without_the_right_the_rest_is_told(redis_own) -> None:
    with redis.Redis.from_url(redis_own.url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", "nopass", "~*", "-@all", "+llen", "+hello")
    info = ServerInfo()
    client = RedisClient(redis_own.url.replace("://", "://reader:x@"), timeout=5)
    *replies, length = await client.pipeline([*info.commands, ("LLEN", "list")])
    told = info.told(replies, client.roundtrip_seconds)
    await client.aclose()
    assert length == 0
    assert [(p.reason, p.part) for p in told.problems] == [(Reason.PERMISSION, "server")]
    assert "+info" in told.problems[0].message
    assert reasons(told) == dict.fromkeys((*MEMORY, *CLIENTS, *COMMANDS), "permission") | {
        "taskq_broker_roundtrip_seconds": "none"
    }
    assert told.stats.memory_bytes is None
    assert not told.stats.commands


async def test_a_server_that_knows_no_info_tells_nothing() -> None:
    with start_redis("--rename-command", "INFO", "hidden-info") as server:
        told = await ask(server.url)
    assert not told.problems
    assert reasons(told) == dict.fromkeys((*MEMORY, *CLIENTS, *COMMANDS), "backend") | {
        "taskq_broker_roundtrip_seconds": "none"
    }


async def test_what_nobody_wants_is_not_asked_for(redis_url: str) -> None:
    info = ServerInfo({*MEMORY, *COMMANDS, "taskq_broker_connections"})
    assert info.commands == (("INFO", "clients"),)
    told = await ask(redis_url, info)
    assert told.stats.memory_bytes is None
    assert told.stats.connections_limit
    assert reasons(told)["taskq_broker_memory_bytes"] == "option"


def test_the_commands_called_most_are_told() -> None:
    lines = [f"cmdstat_c{n}|sub{i}:calls={n},usec=1,usec_per_call=1.00" for n in range(1, 61) for i in range(2)]
    reply = "\r\n".join(["# Commandstats", *lines, "cmdstat_odd:usec=1", ""]).encode()
    commands = ServerInfo(MEMORY + CLIENTS).told([reply], None).stats.commands
    assert commands == {f"c{n}": 2 * n for n in range(60, 60 - MAX_COMMANDS, -1)}
