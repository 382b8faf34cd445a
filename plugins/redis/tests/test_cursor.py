"""The cursor gives out each member once, whatever commits late, shares a score or comes from another clock."""

from __future__ import annotations

import json

import pytest
import redis
from taskq_exporter_redis import Entry, RedisClient, ZsetCursor, connect

from taskq_exporter.api import Source

NOW = 1_000_000.0


async def read(cursor: ZsetCursor, client: RedisClient, now: float = NOW, size: int = 1000) -> list[Entry]:
    found = []
    async for page in cursor.pages(client, size=size):
        assert len(page) <= size
        cursor.advance(page, now)
        found += page
    return found


async def test_each_member_once_and_late_commits_too(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
            cursor = ZsetCursor("z", overlap=60, position=NOW - 100)
            assert await read(cursor, client) == []
            writer.zadd("z", {"a": NOW - 10, "b": NOW - 10.123456789})
            assert [e.member for e in await read(cursor, client)] == ["b", "a"]
            writer.zadd("z", {"late": NOW - 50})  # its score was taken 40 s before that of "a"
            assert await read(cursor, client) == [("late", NOW - 50)]
            assert await read(cursor, client) == []


async def test_a_new_score_is_a_new_entry(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
            cursor = ZsetCursor("z", overlap=60, position=NOW - 100)
            writer.zadd("z", {"a": NOW - 10})
            assert len(await read(cursor, client)) == 1
            writer.zadd("z", {"a": NOW - 5})
            assert await read(cursor, client) == [("a", NOW - 5)]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_pages_go_on_behind_equal_scores(redis_url: str, size: int) -> None:
    members = {f"m{i:03}": NOW - 90 + i // 40 for i in range(200)}
    with redis.Redis.from_url(redis_url) as writer:
        writer.zadd("z", members)
    async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
        cursor = ZsetCursor("z", overlap=60, position=NOW - 100)
        found = await read(cursor, client, size=size)
        assert len(found) == 200
        assert dict(found) == members
        assert await read(cursor, client, size=size) == []


async def test_an_entry_from_the_future_hides_nothing(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
            cursor = ZsetCursor("z", overlap=60, position=NOW - 100)
            writer.zadd("z", {"future": NOW + 86400})
            assert len(await read(cursor, client)) == 1
            writer.zadd("z", {"present": NOW - 20})
            assert await read(cursor, client) == [("present", NOW - 20)]


async def test_what_it_remembers_is_bounded_by_the_overlap(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        writer.zadd("z", {f"m{i}": NOW - 5000 + i for i in range(5000)})
    async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
        cursor = ZsetCursor("z", overlap=60, position=NOW - 6000)
        assert len(await read(cursor, client, size=50)) == 5000
        assert len(cursor.state["seen"]) < 200


async def test_goes_on_from_what_json_kept_in_the_middle(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as writer:
        writer.zadd("z", {f"m{i}": NOW - 500 + i for i in range(500)})
    async with connect(Source(name="t", adapter="t", url=lambda: redis_url)) as client:
        cursor = ZsetCursor("z", overlap=60, position=NOW - 600)
        pages = cursor.pages(client, size=100)
        first = await anext(pages)
        cursor.advance(first, NOW)
        state = json.loads(json.dumps(cursor.state))
        await pages.aclose()
        rest = await read(ZsetCursor.restore("z", state, overlap=60), client)
        assert sorted(e.member for e in first + rest) == sorted(f"m{i}" for i in range(500))


@pytest.mark.parametrize("state", [{}, {"position": "x", "seen": {}}, {"position": 1.0, "seen": {"a": None}}])
def test_a_state_that_is_none_is_refused(state: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        ZsetCursor.restore("z", state, overlap=60)
