"""Targets that a request names: what is allowed is what every client connects to, and nothing else is."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu.utils.url import parse_url as parse_kombu
from psycopg.conninfo import conninfo_to_dict
from redis.asyncio.connection import parse_url as parse_redis
from yarl import URL

from taskq_exporter.runtime.targets import Target, TargetError, parse_allowed, parse_target

FLEET = parse_allowed("redis://*.brokers.internal:6379/*")


def allowed(glob: str, target: str) -> bool:
    return parse_allowed(glob).matches(parse_target(target))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("redis://a.brokers.internal:6379/0", Target("redis", "a.brokers.internal", 6379, "0")),
        ("REDIS://A.Brokers.Internal:06379/", Target("redis", "a.brokers.internal", 6379)),
        ("amqp://rabbit/%2f", Target("amqp", "rabbit", None, "%2F")),
        ("rediss://[2001:DB8:0:0::1]:6380/1", Target("rediss", "[2001:db8::1]", 6380, "1")),
        ("postgresql://10.0.0.1:5432/app.v2", Target("postgresql", "10.0.0.1", 5432, "app.v2")),
        ("pgmq+psycopg://db_1/app", Target("pgmq+psycopg", "db_1", None, "app")),
    ],
)
def test_a_target_has_one_spelling_that_every_client_reads_alike(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target
    assert urlsplit(str(target)).hostname == target.host.strip("[]")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "redis:a.brokers.internal",
        "//a.brokers.internal",
        "redis:///0",
        "file:///etc/passwd",
        "unix:///run/redis.sock",
        "redis://user@a.brokers.internal:6379/0",
        "redis://user:hunter2@a.brokers.internal:6379/0",
        "redis://:@a.brokers.internal:6379/0",
        "redis://a.brokers.internal:6379@evil.example/0",
        "redis://evil.example#a.brokers.internal:6379/0",
        "redis://evil.example?a.brokers.internal:6379/0",
        "redis://a.brokers.internal:6379/0?password=hunter2",
        "redis://a.brokers.internal:6379/0?host=evil.example",
        "redis://a.brokers.internal:6379/0#@evil.example",
        "redis://a.brokers.internal:6379/0;redis://evil.example/0",
        "redis://a.brokers.internal:6379,evil.example:6379/0",
        "redis://evil.example\\.brokers.internal:6379/0",
        "redis://a.brokers.internal\\@evil.example:6379/0",
        "redis://a.brokers.internal%2f@evil.example/0",
        "redis://evil.example%00.brokers.internal:6379/0",
        "redis://evil.example%2e.brokers.internal:6379/0",
        "redis://a.brokers.internal:6379/../0",
        "redis://a.brokers.internal:6379/..",
        "redis://a.brokers.internal:6379/0/1",
        "redis://a.brokers.internal:6379//evil.example",
        "redis://a.brokers.internal:6379/%2e%2e",
        "redis://a.brokers.internal:6379/0\n",
        "redis://a.brokers.internal:6379/0\r\nCONFIG SET",
        "redis://a.brokers.internal\t:6379/0",
        " redis://a.brokers.internal:6379/0",
        "redis://a.brokers.internal.:6379/0",
        "redis://a..brokers.internal:6379/0",
        "redis://.brokers.internal:6379/0",
        "redis://-a.brokers.internal:6379/0",
        "redis://a.brokers.internal:0/0",
        "redis://a.brokers.internal:65536/0",
        "redis://a.brokers.internal:6379:6379/0",
        "redis://a.brokers.internal:/0",
        "redis://ａ.brokers.internal:6379/0",
        "redis://a。brokers.internal:6379/0",
        "redis://a.brokers.internal:６３７９/0",
        "redis://2130706433/0",
        "redis://0x7f000001/0",
        "redis://0x7f.1/0",
        "redis://127.1/0",
        "redis://0177.0.0.1/0",
        "redis://1.2.3.4.5/0",
        "redis://[::1%25eth0]/0",
        "redis://[::ffff:1.2.3.4/0",
        "redis://[1.2.3.4]/0",
        "redis://[]/0",
        "redis://" + "a" * 64 + ".brokers.internal:6379/0",
        "redis://" + "a." * 120 + "brokers.internal:6379/0",
        "host=a.brokers.internal password=hunter2",
        "memory://",
        "javascript://a.brokers.internal/%0aalert(1)//",
    ],
)
def test_what_clients_may_read_otherwise_is_no_target(text: str) -> None:
    with pytest.raises(TargetError) as refused:
        parse_target(text)
    assert "hunter2" not in str(refused.value)
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    ("glob", "target", "expected"),
    [
        ("redis://*.brokers.internal:6379/*", "redis://a.brokers.internal:6379/0", True),
        ("redis://*.brokers.internal:6379/*", "redis://a.brokers.internal:6379", True),
        ("redis://*.brokers.internal:6379/*", "REDIS://A.BROKERS.INTERNAL:6379/15", True),
        ("redis://*.brokers.internal:6379/*", "redis://brokers.internal:6379/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://a.b.brokers.internal:6379/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://a.brokers.internal.evil.example:6379/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://abrokers.internal:6379/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://a.brokersxinternal:6379/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://a.brokers.internal:6380/0", False),
        ("redis://*.brokers.internal:6379/*", "redis://a.brokers.internal/0", False),
        ("redis://*.brokers.internal:6379/*", "rediss://a.brokers.internal:6379/0", False),
        ("redis://*.brokers.internal:6379/0", "redis://a.brokers.internal:6379/1", False),
        ("redis://*.brokers.internal:6379", "redis://a.brokers.internal:6379/1", False),
        ("redis://broker-*", "redis://broker-7", True),
        ("redis://broker-*", "redis://broker-7.evil.example", False),
        ("redis://broker-*", "redis://xbroker-7", False),
        ("redis://*:*/*", "redis://cache:7000/3", True),
        ("redis://*:*/*", "redis://cache", True),
        ("redis://*:*/*", "redis://cache.internal:6379/0", False),
        ("redis://*:*/*", "redis://169.254.169.254/0", False),
        ("redis://*:*/*", "redis://[::1]/0", False),
        ("redis://10.0.*.*:6379", "redis://10.0.3.4:6379", True),
        ("redis://10.0.*.*:6379", "redis://10.1.3.4:6379", False),
        ("redis://10.0.*.*:6379", "redis://10.0.evil.example:6379", False),
        ("redis://10.0.0.1*", "redis://10.0.0.17", True),
        ("redis://*.*.*.*", "redis://a.b.c.example", False),
        ("redis://*.*.*.example", "redis://1.2.3.example", True),
        ("redis://[2001:db8::1]", "redis://[2001:DB8:0::1]", True),
        ("redis://[2001:db8::1]", "redis://[2001:db8::2]", False),
        ("amqp://*:5672/%2f", "amqp://rabbit:5672/%2F", True),
        ("postgresql://db.internal/app_*", "postgresql://db.internal/app_v2.1", True),
    ],
)
def test_a_star_stands_for_a_part_of_one_name_only(glob: str, target: str, expected: bool) -> None:
    assert allowed(glob, target) is expected


@pytest.mark.parametrize(
    ("glob", "words"),
    [
        ("*", "SCHEME://HOST"),
        ("*://a", "SCHEME://HOST"),
        ("redis*://a", "SCHEME://HOST"),
        ("redis://me:hunter2@a", "without user"),
        ("redis://a/0?db=*", "without user"),
        ("redis://[::*]", "SCHEME://HOST"),
        ("redis://a:99999", "port"),
        ("redis://a:*9", "SCHEME://HOST"),
        ("redis://300.*.*.*", "usual form"),
        ("redis://a/..", "path"),
        ("redis+socket://a/x", "no server on the network"),
        ("unix://a/x", "no server on the network"),
        ("filesystem://a/x", "no server on the network"),
    ],
)
def test_a_glob_that_could_never_be_safe_is_refused(glob: str, words: str) -> None:
    with pytest.raises(TargetError, match=words) as refused:
        parse_allowed(glob)
    assert "hunter2" not in str(refused.value)


PIECES = [
    *(
        "redis://",
        "http://",
        "user:hunter2@",
        "evil.example",
        "a.brokers.internal",
        ".brokers.internal",
        ":6379",
        ":6379/0",
    ),
    *("%2f", "%40", "%00", "..", "//", "。", "ﬀ", "İ", *"ab.:/@?#\\;,%[]*=& \t\n\0~_-+019"),
]


@settings(max_examples=500, deadline=None)
@example(["a.brokers.internal", ":6379/0"])
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_text_leads_a_client_beyond_the_list(pieces: list[str]) -> None:
    try:
        target = parse_target("redis://" + "".join(pieces))
    except TargetError:
        return
    if not FLEET.matches(target):
        return
    url = target.url("exporter", "p@ss/w?r#d:;,", {"connect_timeout": "1"})
    libpq = conninfo_to_dict(url.replace("redis://", "postgresql://"))
    hosts = {
        urlsplit(url).hostname,
        URL(url).host,
        parse_redis(url)["host"],
        parse_kombu(url)["hostname"],
        libpq["host"],
    }
    assert len(hosts) == 1, url
    assert str(hosts.pop()).endswith(".brokers.internal")
    assert {parse_redis(url)["password"], parse_kombu(url)["password"], libpq["password"]} == {"p@ss/w?r#d:;,"}
