"""The client against a real server: what it reads, and how each failure is called."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from taskq_exporter_redis import connect, errors

from taskq_exporter.api import AdapterError, Reason, Source

PASSWORD = "s3cret#/?@"
QUOTED = "s3cret%23%2F%3F%40"


def source(url: str, timeout: float = 5.0) -> Source:
    return Source(name="test", adapter="test", url=lambda: url, timeout=timeout)


def with_user(url: str, user: str, password: str) -> str:
    return url.replace("redis://", f"redis://{user}:{password}@")


async def failure(url: str, *command: Any, timeout: float = 5.0) -> AdapterError:
    with pytest.raises(AdapterError) as raised:
        async with connect(source(url, timeout)) as client:
            await client.command(*(command or ("TIME",)))
    assert "s3cret" not in str(raised.value)
    return raised.value


async def test_replies_are_raw_and_counted(redis_url: str) -> None:
    async with connect(source(redis_url)) as client:
        replies = await client.pipeline(
            [("HSET", "h", "a", 1), ("HMGET", "h", "a", "b"), ("HGETALL", "h"), ("ZADD", "z", 1.5, "m"), ("TYPE", "z")]
        )
        assert replies == [1, [b"1", None], [b"a", b"1"], 1, b"zset"]
        assert await client.command("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"m", b"1.5"]
        assert client.commands_sent == 6
        assert abs(await client.time() - time.time()) < 60
        assert await client.pipeline([]) == []
        assert client.server in {"redis", "valkey"}
        assert client.server_version
        with errors():
            assert await client.redis.hgetall("h") == {b"a": b"1"}


async def test_many_and_large_replies_come_in_order(redis_url: str) -> None:
    large = b"x" * 1_000_000
    async with connect(source(redis_url)) as client:
        replies = await client.pipeline([*(("ECHO", i) for i in range(5_000)), ("ECHO", large), ("ECHO", "end")])
    assert replies == [*(str(i).encode() for i in range(5_000)), large, b"end"]


async def test_a_connection_that_the_server_closes_is_an_error_once(redis_url: str) -> None:
    async with connect(source(redis_url)) as client:
        me = await client.command("CLIENT", "ID")
        with pytest.raises(AdapterError) as raised:
            await client.pipeline([("CLIENT", "KILL", "ID", me, "SKIPME", "no"), ("TIME",)])
        assert raised.value.reason is Reason.CONNECT
        assert await client.command("CLIENT", "ID") != me


@pytest.mark.parametrize(
    ("says", "reason", "words"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol", "as Redis"), (b"", "connect", "port")],
)
async def test_another_kind_of_server_at_that_port(says: bytes, reason: str, words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        error = await failure(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    assert (error.reason, words in str(error)) == (reason, True), error


async def test_names_its_connection(redis_url: str) -> None:
    async with connect(source(redis_url)) as collect, connect(source(redis_url), purpose="follow") as follow:
        assert await collect.command("CLIENT", "GETNAME") == b"taskq-exporter"
        assert await follow.command("CLIENT", "GETNAME") == b"taskq-exporter-follow"


async def test_database_of_the_caller(redis_url: str) -> None:
    async with connect(source(redis_url), database=3) as client:
        assert b" db=3 " in await client.command("CLIENT", "LIST", "ID", await client.command("CLIENT", "ID"))


async def test_missing_keys_and_groups_are_none(redis_url: str) -> None:
    async with connect(source(redis_url)) as client:
        await client.command("XADD", "stream", "*", "a", "b")
        replies = await client.pipeline(
            [("XINFO", "STREAM", "no"), ("XINFO", "CONSUMERS", "stream", "no"), ("XPENDING", "stream", "no")]
        )
        assert replies == [None, None, None]
        assert await client.command("XINFO", "STREAM", "no") is None


async def test_error_replies_stay_in_their_place(redis_url: str) -> None:
    async with connect(source(redis_url)) as client:
        ok, wrong, unknown, after = await client.pipeline(
            [("SET", "k", "v"), ("ZCARD", "k"), ("NOSUCHCOMMAND", "k"), ("GET", "k")]
        )
        assert (ok, after) == (b"OK", b"v")
        assert wrong.reason is Reason.PROTOCOL
        assert "ZCARD k" in str(wrong)
        assert unknown.reason is Reason.UNSUPPORTED


async def test_password_wanted_and_wrong(redis_own: Any) -> None:
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.config_set("requirepass", PASSWORD)
    assert (await failure(redis_own.url)).reason is Reason.AUTH
    assert (await failure(with_user(redis_own.url, "", "s3cret"))).reason is Reason.AUTH
    assert (await failure(with_user(redis_own.url, "nobody", QUOTED))).reason is Reason.AUTH
    async with connect(source(with_user(redis_own.url, "", QUOTED))) as client:
        assert await client.time() > 0


async def test_missing_rights_are_named_and_leave_no_trace_of_our_own(redis_own: Any) -> None:
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~mine:*", "-@all", "+zcard", "+time", "+select")
        async with connect(source(with_user(redis_own.url, "reader", "pw").replace("/0", "/1"))) as client:
            ok, command, key = await client.pipeline(
                [("ZCARD", "mine:a"), ("XINFO", "STREAM", "mine:a"), ("ZCARD", "other")]
            )
            assert client.server
        assert ok == 0
        assert command.reason is key.reason is Reason.PERMISSION
        assert "+xinfo|stream" in str(command)
        assert "ZCARD other" in str(key)
        # Connecting needs no right: what the server refused is only what we asked for above.
        assert {entry["object"] for entry in admin.acl_log()} == {"xinfo|stream", "other"}


async def test_refused_port(redis_own: Any) -> None:
    redis_own.stop()
    started = time.monotonic()
    assert (await failure(redis_own.url)).reason is Reason.CONNECT
    assert time.monotonic() - started < 1
    redis_own.start()
    async with connect(source(redis_own.url)) as client:
        assert await client.time() > 0


async def test_frozen_server_times_out(redis_own: Any) -> None:
    async with connect(source(redis_own.url, timeout=0.3)) as client:
        await client.time()
        redis_own.freeze()
        started = time.monotonic()
        with pytest.raises(AdapterError) as raised:
            await client.time()
        assert raised.value.reason is Reason.TIMEOUT
        assert time.monotonic() - started < 1
        assert (await failure(redis_own.url, timeout=0.3)).reason is Reason.TIMEOUT
        redis_own.thaw()
        assert await client.time() > 0  # the late reply of the first question is not taken for this one's


async def test_cancelled_command_does_not_shift_replies(redis_own: Any) -> None:
    async with connect(source(redis_own.url)) as client:
        await client.time()
        redis_own.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.command("ECHO", "late")
        redis_own.thaw()
        assert await client.command("ECHO", "right") == b"right"


async def test_out_of_connections_and_busy(redis_own: Any) -> None:
    with redis.Redis.from_url(redis_own.url) as admin:
        admin.config_set("maxclients", 1)
        assert (await failure(redis_own.url)).reason is Reason.BUSY
        admin.config_set("maxclients", 100)
        admin.config_set("busy-reply-threshold", 10)
        loop = subprocess.Popen([sys.executable, "-c", SCRIPT, redis_own.url])
        try:
            while (error := await busy(redis_own.url)) is None:
                await asyncio.sleep(0.01)
            assert error.reason is Reason.BUSY
        finally:
            admin.script_kill()
            loop.wait()


SCRIPT = """
import redis, sys
try:
    redis.Redis.from_url(sys.argv[1]).eval("while true do end", 0)
except redis.RedisError:
    pass
"""


async def busy(url: str) -> AdapterError | None:
    try:
        async with connect(source(url)) as client:
            await client.command("GET", "k")
    except AdapterError as error:
        return error
    return None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/0",
        "redis://:s3cret#rest@127.0.0.1:1/0",
        "redis://:s3cret@127.0.0.1:1/0?nosuchoption=1",
        "redis://:s3cret@nosuchhost.invalid/0",
        "unix:///nosuchsocket",
    ],
)
async def test_unusable_urls(url: str) -> None:
    assert (await failure(url)).reason is Reason.CONNECT


async def test_unknown_database(redis_url: str) -> None:
    error = await failure(redis_url.rsplit("/", 1)[0] + "/99999")
    assert error.reason is Reason.CONNECT
    assert "database" in str(error)


async def test_leaves_no_connection_behind(redis_own: Any) -> None:
    with redis.Redis.from_url(redis_own.url) as admin:
        for _ in range(5):
            async with connect(source(redis_own.url)) as client:
                await asyncio.gather(*(client.time() for _ in range(5)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), connect(source(redis_own.url)) as client:
                await client.command("BLPOP", "nothing", 0)
        while len(admin.client_list()) > 1:
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server that speaks TLS only, and the folder of its certificate and its Unix socket."""
    if not (shutil.which("redis-server") and shutil.which("openssl")):
        pytest.skip("needs the programs redis-server and openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificate = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out ca.pem -subj /CN=localhost"
    subprocess.run(
        ["openssl", *certificate.split(), "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    port = 20000 + os.getpid() % 10000
    options = f"--port 0 --tls-port {port} --tls-cert-file ca.pem --tls-key-file key.pem --tls-auth-clients no"
    server = subprocess.Popen(
        ["redis-server", *options.split(), "--unixsocket", "redis.sock", "--save", "", "--bind", "127.0.0.1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    while not (folder / "redis.sock").exists():
        if server.poll() is not None:
            pytest.skip("this redis-server was built without TLS")
        time.sleep(0.01)
    yield f"rediss://localhost:{port}/0", folder
    server.terminate()
    server.wait()


async def test_tls(tls_server: tuple[str, Path]) -> None:
    url, folder = tls_server
    untrusted = await failure(url)
    assert untrusted.reason is Reason.CONNECT
    assert "ssl_ca_certs" in str(untrusted)
    for query in (f"?ssl_ca_certs={folder}/ca.pem", "?ssl_cert_reqs=none", "?ssl_cert_reqs=CERT_NONE"):
        async with connect(source(url + query)) as client:
            assert await client.time() > 0


async def test_unix_socket(tls_server: tuple[str, Path]) -> None:
    async with connect(source(f"unix://{tls_server[1]}/redis.sock?db=2")) as client:
        assert b" db=2 " in await client.command("CLIENT", "INFO")
