"""The web configuration file, in the format of Prometheus' exporter-toolkit: TLS, passwords, headers, rate limit.

What it says that cannot be honoured here is refused with the reason, not ignored.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from taskq_exporter.config.durations import Seconds
from taskq_exporter.config.mistakes import ConfigError, Mistakes, read_yaml
from taskq_exporter.web.tls import CurrentContext, Section, TlsError, TlsServer, make_context

__all__ = ["LoadedWebConfig", "RateLimit", "WebConfig", "WebConfigFile"]

log = structlog.get_logger("taskq_exporter")

#: A login at a higher cost takes longer than a scrape may.
MAX_COST = 16


def _hash(secret: SecretStr) -> SecretStr:
    form = re.fullmatch(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", secret.get_secret_value())
    if form is None:
        raise ValueError("must be a bcrypt hash: `htpasswd -nBC 10 NAME` prints NAME:HASH")
    if not 4 <= int(form[1]) <= MAX_COST:
        raise ValueError(f"the hash has cost {form[1]}; a scrape has time for 4 to {MAX_COST}")
    return secret


def _name(name: str) -> str:
    if ":" in name or not name:
        raise ValueError("a user's name has a colon or is empty: nobody can log in so")
    return name


def _with_unit(value: object) -> object:
    if isinstance(value, int | float) and value:
        raise ValueError("write the unit, e.g. 100ms: a bare number is nanoseconds to other exporters")
    return value


def _one_line(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must be printable ASCII in one line")
    return value


_Value = Annotated[str, AfterValidator(_one_line)]


class Headers(Section):
    """Headers of each answer; "" is not sent."""

    csp: _Value = Field(default="", alias="Content-Security-Policy")
    hsts: _Value = Field(default="", alias="Strict-Transport-Security")
    content_type: Literal["nosniff", ""] = Field(default="", alias="X-Content-Type-Options")
    frame: Literal["deny", "sameorigin", ""] = Field(default="", alias="X-Frame-Options")
    xss: _Value = Field(default="", alias="X-XSS-Protection")

    def sent(self) -> dict[str, str]:
        """By name."""
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value}


class HttpServer(Section):
    """Of the protocol."""

    http2: bool = True
    headers: Headers = Headers()


class RateLimit(Section):
    """A token each `interval` seconds, of which `burst` may be saved; no limit where `interval` is 0."""

    interval: Annotated[Seconds, BeforeValidator(_with_unit)] = 0.0
    burst: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_request(self) -> RateLimit:
        if self.interval and not self.burst:
            raise ValueError("burst must be at least 1: with 0 every request is refused")
        return self


User = Annotated[str, AfterValidator(_name)]
Hash = Annotated[SecretStr, AfterValidator(_hash)]


class WebConfig(Section):
    """The whole file."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[User, Hash] = Field(default={})
    rate_limit: RateLimit = RateLimit()


@dataclass(frozen=True)
class LoadedWebConfig:
    """What the file says, with the certificates that it names."""

    config: WebConfig
    context: ssl.SSLContext | None


class WebConfigFile:
    """A file that is read again when it or a certificate changes."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises ConfigError with every mistake in it."""
        self._path = path
        self._seen: dict[Path, tuple[int, ...] | None] = {}
        self._loaded = self._load()
        self._said = ""  # what the log says is wrong with it; "" while it is good
        if "http2" in (http := self._loaded.config.http_server_config).model_fields_set and http.http2:
            log.info("http2 is not spoken here: clients get HTTP/1.1", file=str(path))

    def current(self) -> LoadedWebConfig:
        """What holds now: the last good content of the files."""
        if any(_state(path) != seen for path, seen in self._seen.items()):
            try:
                loaded = self._load()
                if (loaded.context is None) != (self._loaded.context is None):
                    raise ConfigError(f"{self._path}: TLS cannot be switched on or off while it runs: restart")
                self._loaded, self._said = loaded, ""
                log.info("web configuration read again", file=str(self._path))
            except ConfigError as error:
                if str(error) != self._said:
                    self._said = str(error)
                    log.error("web configuration is bad: the last good one holds", error=self._said)
        return self._loaded

    def server_context(self) -> ssl.SSLContext | None:
        """For a server: follows the files from connection to connection. None without TLS."""
        if self._loaded.context is None:
            return None
        return CurrentContext(lambda: self.current().context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def _load(self) -> LoadedWebConfig:
        self._seen = {self._path: _state(self._path)}  # before it is read: what changes meanwhile is read again
        document = read_yaml(self._path)
        mistakes = Mistakes(self._path, document)
        config = mistakes.validate(WebConfig, {} if document.data is None else document.data, ()) or WebConfig()
        mistakes.fail()
        if config.tls_server_config is None:
            return LoadedWebConfig(config, None)
        tls = config.tls_server_config.relative_to(self._path.parent)
        self._seen |= {path: _state(path) for path in tls.files()}
        try:
            return LoadedWebConfig(config, make_context(tls))
        except TlsError as error:
            mistakes.add(("tls_server_config", error.option), f"{error.option}: {error}")
            mistakes.fail()
            raise


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes with a file, renamed, written or given other rights; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
