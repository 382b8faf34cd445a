"""Log lines: of one form, of what matters, and without any password, however a URL holds it and a line escapes it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import structlog

import taskq_exporter.log as log
from taskq_exporter.credentials import passwords, without_credentials


@pytest.mark.parametrize("form", ["json", "logfmt"])
@pytest.mark.parametrize("middle", ["", '"', "\\", '" of\\', "äö", "\U0001f511", "'", '\' "é\\w"', "= ", "/", "%"])
def test_a_password_is_hidden_however_the_line_escapes_it(
    middle: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    password = f"horse{middle}staple"
    log.keep_secret(f"redis://user:{password}@host/0")
    log.configure("info", form)
    logger = structlog.get_logger("taskq_exporter")
    logger.info("plain", error=password)
    logger.info("in a list", errors=[f"cannot use {password}"])
    try:
        raise ValueError(f"bad: {password!r} and {password.encode()!r}")
    except ValueError as error:
        logger.error("failed", error=repr(error), exc_info=error)
    written = capsys.readouterr().err
    assert len(written.splitlines()) >= 3
    assert written.count("***") >= 6
    assert "horse" not in written
    assert "staple" not in written


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("redis://:hunter2@h/0", ["hunter2"]),
        ("redis://u:p%40ss@h/0", ["p%40ss", "p@ss"]),
        ("redis://h/0?password=hunter2&db=1", ["hunter2"]),
        ("postgresql:///app?host=db&sslpassword=one+two&password=three%2F", ["one two", "three/"]),
        ("host=h user=u password=hunter2 dbname=app", ["hunter2"]),
        (r"host=h password = 'hun\'ter 2' dbname=app", ["hun'ter 2"]),
        (r"host=h password=hun\ ter&2", ["hun ter&2"]),
        ("redis://u:hun/ter2@h:6379/0", ["hun/ter2", "hun", "ter2"]),
        ("redis://u:hun/t?er2@h:6379/0", ["hun/t?er2", "hun", "er2"]),
        ("postgresql://u:hun@ter2@h/app", ["hun@ter2", "hun", "ter2"]),
        ("postgresql://u:hunter2@h1:5432,h2:5432/db", ["hunter2"]),
        ("amqp://u:one1@h1,v:two2@h2/v", ["one1", "two2"]),
        ("amqp://u:one1@h1//;amqp://v:two2@h2//", ["one1", "two2"]),
        ("sentinel://:one1@h1:26379;v:two2@h2", ["one1", "two2"]),
    ],
)
def test_every_password_of_a_url_is_found(url: str, secrets: list[str]) -> None:
    assert set(secrets) <= passwords(url)
    log.keep_secret(url)
    for secret in secrets:
        assert secret not in log.redact(f"cannot use {secret!r}, that is {secret}")


@pytest.mark.parametrize(
    "url", ["redis://h:6379/0", "postgresql://me@h1:5432,h2/db", "host=h dbname=x", "", "redis://[::1"]
)
def test_no_secret_where_there_is_no_password(url: str) -> None:
    assert not passwords(url)


def test_the_longest_secret_is_replaced_first() -> None:
    log.keep_secret("x://u:abc@h")
    log.keep_secret("x://u:abcdef@h")
    assert log.redact("abcdef abc") == "*** ***"


@pytest.mark.parametrize(
    "url",
    [
        "redis://{}@h:6379/0",
        "redis://{}@h:6379/0?email=a@b",
        "postgresql://{}@h1:5432,h2:5432/db",
        "redis://{}@host:abc",
        "redis://{}@[::1",
        "amqp://{}@h1//;amqp://{}@h2//",
    ],
)
def test_a_url_without_credentials_is_the_same_for_every_password(url: str) -> None:
    bare = without_credentials(url.replace("{}@", ""))
    for userinfo in ("u:one", "u:two", ":three", "me", "u:with@at", "u:with/slash"):
        stripped = without_credentials(url.replace("{}", userinfo))
        assert stripped == bare, userinfo


def test_credentials_in_parameters_are_left_out() -> None:
    assert without_credentials("x:///a?host=h&user=u&password=p%26&db=1") == without_credentials("x:///a?host=h&db=1")
    assert without_credentials("host=h user=u password='a b' dbname=d") == "host=h&dbname=d"
    assert without_credentials("redis://h/0?db=1") != without_credentials("redis://h/0?db=2")
    assert without_credentials("x://h1:5432,h2:5432/d?user=a@b") == "x://h1:5432,h2:5432/d"


def test_third_parties_are_quiet_and_of_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    def said(level: str) -> list[str]:
        log.configure(level, "json")
        for name in ("kombu.connection", "redis", "aiohttp.access", "asyncio"):
            logging.getLogger(name).info("connected by %s", name)
        logging.getLogger("kombu.connection").warning("lost")
        logging.getLogger("aiohttp.server").error("Error handling request")
        structlog.get_logger("taskq_exporter").info("ours", tls=True)
        return [json.loads(line)["msg"] for line in capsys.readouterr().err.splitlines()]

    assert said("info") == ["lost", "ours"]
    assert said("error") == []
    assert said("debug")[:2] == ["connected by kombu.connection", "connected by redis"]


def test_a_line_begins_with_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "logfmt")
    structlog.get_logger("taskq_exporter").warning("source is down", tls=True, source="a b", reason=None)
    line = capsys.readouterr().err
    assert line.startswith("time=20")
    assert line.split("Z ", 1)[1] == 'level=warning msg="source is down" tls=true source="a b" reason=\n'


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_no_text_of_others_ends_a_line_or_moves_a_terminal(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", form)
    structlog.get_logger("taskq_exporter").info("request", path="/a\r\nlevel=error\x1b[2J", queue="b\u2028\x00\u202ec")
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.isprintable()
    assert "\\x1b[2J" in line or "\\u001b[2J" in line


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_warnings_and_crashes_are_lines_too_and_tell_no_password(form: str) -> None:
    code = (
        "import warnings, taskq_exporter.log as log\n"
        f"log.configure('info', {form!r})\n"
        "log.keep_secret('redis://:hunter2@h')\n"
        "warnings.warn('old with hunter2', UserWarning)\n"
        "raise RuntimeError('bad with hunter2')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 2)
    assert "UserWarning: old with ***" in lines[0]
    assert "RuntimeError: bad with ***" in lines[1]
    assert "ended by a bug" in lines[1]
    if form == "json":
        assert [json.loads(line)["level"] for line in lines] == ["warning", "critical"]
