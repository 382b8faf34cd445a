"""What the web configuration file does to requests: passwords, headers, rate."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from taskq_exporter.exporter import Exporter
from taskq_exporter.web import logins
from taskq_exporter.web.app import make_app
from taskq_exporter.web.logins import Logins, TooManyError, credentials
from taskq_exporter.web.secure import Bucket, protect
from taskq_exporter.web.webconfig import RateLimit, WebConfigFile

ROUTES = ["/", "/metrics", "/-/healthy", "/-/ready", "/health", "/nothing"]


def hashed(password: str, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix)).decode()


ALICE = hashed("open sesame")


@asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[TestClient]:
    """A client of an exporter without sources that is protected by a file."""
    exporter = Exporter()
    app = make_app(exporter)
    protect(app, WebConfigFile(path))
    async with TestClient(TestServer(app)) as client:
        yield client
    await exporter.close()


def write(path: Path, text: str) -> Path:
    """Write a file anew, as those do who are careful: its inode changes with it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    return new.replace(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def login(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


async def test_every_route_wants_a_password(file: Path) -> None:
    write(file, f"basic_auth_users: {{alice: '{ALICE}', bob: '{hashed('ünïcode', b'2a')}'}}")
    async with client_of(file) as client:
        for route in ROUTES:
            refused = await client.get(route)
            assert refused.status == 401, route
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")
            allowed = await client.get(route, headers=login("alice", "open sesame"))
            assert allowed.status != 401, route
        for name, password in [
            ("alice", ""),
            ("alice", "open"),
            ("alice", "open sesame" + "x" * 80),
            ("", "open sesame"),
            ("bob", "open sesame"),
            ("mallory", "open sesame"),
        ]:
            wrong = await client.get("/metrics", headers=login(name, password))
            assert wrong.status == 401, (name, password)
        assert (await client.get("/metrics", headers=login("bob", "ünïcode"))).status == 200
        for header in ["Basic", "Basic !", "Basic YWxpY2U=", "Bearer abc", "Basic " + "A" * 4000, "Basic /////w=="]:
            assert (await client.get("/metrics", headers={"Authorization": header})).status == 401, header


def test_hashes_of_htpasswd_are_taken(file: Path) -> None:
    # made by `htpasswd -nBC 4`; bcrypt for Python writes 2b
    write(file, "basic_auth_users: {alice: $2y" + ALICE[3:] + "}")
    users = WebConfigFile(file).current().config.basic_auth_users
    assert asyncio.run(Logins().good(users, "alice", b"open sesame"))


def test_credentials_are_read_as_they_are_sent() -> None:
    assert credentials("Basic YTpiOmM=") == ("a", b"b:c")
    assert credentials("basic  Og==") == ("", b"")
    for header in [None, "", "Basic", "Basic YQ==", "Digest YTpi", "Basic YTpi\N{SNOWMAN}"]:
        assert credentials(header) is None


async def test_a_right_password_is_hashed_once_and_a_wrong_one_each_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[bytes] = []
    matches = logins._matches

    def counting(password: bytes, stored: bytes) -> bool:
        counted.append(stored)
        return matches(password, stored)

    monkeypatch.setattr(logins, "_matches", counting)
    dear = bcrypt.hashpw(b"b", bcrypt.gensalt(5)).decode()
    users = WebConfigFile(write(file, f"basic_auth_users: {{alice: '{ALICE}', bob: '{dear}'}}")).current()
    known = users.config.basic_auth_users
    checker = Logins()
    assert await asyncio.gather(*(checker.good(known, "alice", b"open sesame") for _ in range(5))) == [True] * 5
    assert counted == [ALICE.encode()]
    assert not await checker.good(known, "alice", b"wrong")
    assert not await checker.good(known, "alice", b"x" * 73)
    # a name that nobody has costs a hash too, the dearest
    assert not await checker.good(known, "mallory", b"b")
    assert counted == [ALICE.encode()] * 3 + [dear.encode()]
    assert len(checker._known) == 1


async def test_a_password_is_no_longer_good_when_its_hash_changes(file: Path) -> None:
    write(file, f"basic_auth_users: {{alice: '{ALICE}'}}")
    auth = login("alice", "open sesame")
    async with client_of(file) as client:
        assert (await client.get("/-/healthy", headers=auth)).status == 200
        write(file, f"basic_auth_users: {{alice: '{hashed('other')}'}}")
        assert (await client.get("/-/healthy", headers=auth)).status == 401
        write(file, "basic_auth_users: {}")
        assert (await client.get("/-/healthy")).status == 200


async def test_guesses_do_not_pile_up_and_the_loop_goes_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MAX_WAITING", 3)
    users = WebConfigFile(write(file, f"basic_auth_users: {{alice: '{ALICE}'}}")).current().config.basic_auth_users
    checker = Logins()
    assert await checker.good(users, "alice", b"open sesame")
    tries = await asyncio.gather(*(checker.good(users, "alice", b"%d" % i) for i in range(9)), return_exceptions=True)
    assert [type(t) for t in tries].count(TooManyError) == 6
    assert tries.count(False) == 3
    assert await checker.good(users, "alice", b"open sesame")


async def test_headers_stand_in_every_answer(file: Path) -> None:
    users = f"basic_auth_users: {{alice: '{ALICE}'}}"
    write(
        file,
        f"{users}\nhttp_server_config: {{headers: {{X-Frame-Options: sameorigin, Content-Security-Policy: none}}}}",
    )
    async with client_of(file) as client:
        for auth in (None, login("alice", "open sesame")):
            for route in ROUTES:
                headers = (await client.get(route, headers=auth)).headers
                assert headers.getall("X-Frame-Options") == ["sameorigin"], (route, auth)
                assert headers.getall("Content-Security-Policy") == ["none"], (route, auth)


async def test_a_rate_limit_refuses_what_is_over_it(file: Path) -> None:
    write(file, "rate_limit: {interval: 1h, burst: 3}")
    async with client_of(file) as client:
        answers = [await client.get(route) for route in ["/metrics", "/-/healthy", "/", "/metrics"]]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert 3590 < int(answers[-1].headers["Retry-After"]) <= 3600


def test_tokens_come_back_at_their_rate() -> None:
    bucket, limit = Bucket(), RateLimit.model_validate({"interval": "2s", "burst": 3})
    assert [bucket.wait(limit, 100.0) for _ in range(4)] == [0, 0, 0, 2]
    assert bucket.wait(limit, 101.5) == 0.5
    assert bucket.wait(limit, 102.0) == 0
    assert [bucket.wait(limit, 1000.0) for _ in range(4)] == [0, 0, 0, 2], "no more than the burst is saved"
    assert bucket.wait(RateLimit(), 1000.0) == 0
    assert bucket.wait(RateLimit.model_validate({"interval": "1s", "burst": 1}), 1000.0) == 0


async def test_a_bad_new_file_leaves_the_old_one_in_force_with_one_line(file: Path) -> None:
    write(file, f"basic_auth_users: {{alice: '{ALICE}'}}")
    async with client_of(file) as client:
        with capture_logs() as lines:
            for bad in ["basic_auth_users: {alice: plain}", "tls_server_config: {cert: a, key: b}"]:
                write(file, bad)
                for _ in range(3):
                    assert (await client.get("/-/healthy")).status == 401
            file.unlink()
            assert (await client.get("/-/healthy")).status == 401
            write(file, "")
            assert (await client.get("/-/healthy")).status == 200
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == [
        "web configuration is bad: the last good one holds",
        "web configuration is bad: the last good one holds",
        "web configuration is bad: the last good one holds",
        "web configuration read again",
    ]
    assert f"{file}:1:27: basic_auth_users.alice: must be a bcrypt hash" in lines[0]["error"]
