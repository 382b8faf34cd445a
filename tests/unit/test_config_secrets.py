"""Secrets from files, for every option that is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import adapters
from pydantic import BaseModel, SecretStr

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import AdapterError, Options, Reason, Snapshot
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError, ConfiguredSource
from taskq_exporter.log import redact


class Inner(BaseModel):
    user: str = ""
    password: SecretStr | None = None


class SecretOptions(Options):
    token: SecretStr | None = None
    inner: Inner = Inner()
    plain: str = ""


ADAPTERS = adapters(fake={"collect": lambda: Snapshot(), "options": lambda: SecretOptions})


def load(tmp_path: Path, entry: str, known: Adapters = ADAPTERS) -> ConfiguredSource:
    path = tmp_path / "config.yaml"
    path.write_text(f"sources:\n  - {{name: a, adapter: fake, url: 'x://h', {entry}}}\n")
    return load_config(path, known, {"TOKEN": "swordfish-42"}).sources[0]


def test_an_option_that_is_a_secret_may_come_from_a_file_which_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    source = load(tmp_path, f"token_file: {file}, inner: {{user: me, password_file: {file}}}")
    assert str(file) in repr(source)
    assert (source.fingerprint(), source.options) == (source.fingerprint(), source.options)
    for secret in (source.options.token, source.options.inner.password):
        with pytest.raises(AdapterError, match=f"_file {file} cannot be read: FileNotFoundError") as caught:
            secret.get_secret_value()
        assert caught.value.reason is Reason.AUTH
    for text in ("hunter2-one", "hunter2-two"):
        file.write_text(f"{text}\n")
        assert source.options.token.get_secret_value() == text
        assert source.options.inner.password.get_secret_value() == text
        assert redact(f"refused {text}") == "refused ***"
    assert "hunter2" not in repr(source) + str(source.options.token) + source.options.model_dump_json()


def test_a_secret_that_is_no_url_is_kept_out_of_the_log(tmp_path: Path) -> None:
    source = load(tmp_path, "token: '${TOKEN}', inner: {password: correct-horse}")
    assert source.options.token.get_secret_value() == "swordfish-42"
    assert redact("swordfish-42 and correct-horse") == "*** and ***"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("token: a, token_file: /b", "2:5: there is either token or token_file"),
        ("token_file: ''", "2:5: token_file must be the path of a file"),
        ("token_fiel: /b", "2:44: unknown key 'token_fiel'; did you mean 'token_file'?"),
        ("plain_file: /b", "2:44: unknown key 'plain_file'"),
    ],
)
def test_mistakes(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, entry)
    assert f"config.yaml:{message}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_options_of_the_adapters_that_are_here(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources:\n"
        "  - {name: a, adapter: celery, url: 'amqp://h', management_url_file: /no/a,"
        " sentinel_kwargs: {password_file: /no/b}}\n"
        "  - {name: b, adapter: taskflow, url: 'postgresql://h/d', redis_url_file: /no/c}\n"
    )
    celery, taskflow = (source.options for source in load_config(path, Adapters()).sources)
    for secret in (celery.management_url, celery.sentinel_kwargs.password, taskflow.redis_url):
        with pytest.raises(AdapterError, match=r"_file /no/[abc] cannot be read"):
            secret.get_secret_value()
    path.write_text("sources: [{name: a, adapter: celery, url: 'amqp://h', management_url: 'amqp://x'}]")
    with pytest.raises(ConfigError, match=":1:71: management_url: must begin with http"):
        load_config(path, Adapters())
