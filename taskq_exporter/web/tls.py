"""TLS of the web server: the options of exporter-toolkit's `tls_server_config`, and the context that they make."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

__all__ = ["CurrentContext", "Section", "TlsError", "TlsServer", "make_context"]

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
#: Go's names of its secure suites for TLS 1.2, and OpenSSL's.
_CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{theirs}": f"ECDHE-{key}-{ours}"
    for key in ("ECDSA", "RSA")
    for theirs, ours in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
#: Those of TLS 1.3 are always on, here as there.
_CIPHERS_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")


def _spoken(value: object) -> object:
    if value in ("TLS10", "TLS11"):
        raise ValueError(f"{value} is not safe, and OpenSSL no longer speaks it; there are {' and '.join(_VERSIONS)}")
    return value


def _expressible(value: object) -> object:
    if value in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(f"{value} takes certificates that nobody verifies, which OpenSSL cannot; there are {_AUTH}")
    return value


def _known_ciphers(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in _CIPHERS and name not in _CIPHERS_13]:
        raise ValueError(f"unknown suite {unknown[0]!r}; there are {', '.join((*_CIPHERS, *_CIPHERS_13))}")
    return names


def _one_curve(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in _CURVES]:
        raise ValueError(f"unknown curve {unknown[0]!r}; there are {', '.join(_CURVES)}")
    if len(names) > 1:
        raise ValueError("Python's OpenSSL takes one curve, not a list with an order: name one, or leave it out")
    return names


_AUTH = ", ".join(_VERIFY)
Version = Annotated[Literal["TLS12", "TLS13"], BeforeValidator(_spoken)]
AuthType = Annotated[
    Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"], BeforeValidator(_expressible)
]


class TlsError(Exception):
    """A certificate or key that cannot be used: under which option it stands, and why."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class Section(BaseModel):
    """A mapping of the file; a key without a value is as if it were not there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, Mapping) else data


class TlsServer(Section):
    """The options, as exporter-toolkit names them."""

    cert: str | None = None
    cert_file: Path | None = None
    key: SecretStr | None = None
    key_file: Path | None = None
    client_ca: str | None = None
    client_ca_file: Path | None = None
    client_auth_type: AuthType = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: Annotated[tuple[str, ...], AfterValidator(_known_ciphers)] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: Annotated[tuple[str, ...], AfterValidator(_one_curve)] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for one, other in (("cert", "cert_file"), ("key", "key_file")):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                raise ValueError(f"needs either {one} or {other}")
        authorities = (self.client_ca is not None) + (self.client_ca_file is not None)
        if self.client_auth_type == "NoClientCert" and authorities:
            raise ValueError("a client CA without client_auth_type: set it to RequireAndVerifyClientCert")
        if self.client_auth_type != "NoClientCert" and authorities != 1:
            raise ValueError(f"client_auth_type {self.client_auth_type} needs either client_ca or client_ca_file")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        if self.max_version == "TLS12" and self.cipher_suites and not self._ciphers():
            raise ValueError("cipher_suites names none of TLS 1.2, the only version that max_version allows")
        return self

    def _ciphers(self) -> list[str]:
        return [_CIPHERS[name] for name in self.cipher_suites if name in _CIPHERS]

    def files(self) -> list[Path]:
        """The files that it names."""
        return [path for path in (self.cert_file, self.key_file, self.client_ca_file) if path is not None]

    def relative_to(self, directory: Path) -> TlsServer:
        """The same with file names that stand in a folder."""
        names = ("cert_file", "key_file", "client_ca_file")
        found = {name: directory / path for name in names if (path := getattr(self, name)) is not None}
        return self.model_copy(update=found)


def make_context(tls: TlsServer) -> ssl.SSLContext:
    """A server's context with certificate, key and authorities as they are now. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _limit(context, tls)
    option, certificate = _pem(tls, "cert")
    key_option, key = _pem(tls, "key")
    try:
        with _file(certificate + b"\n" + key) as path:
            context.load_cert_chain(path, password=_encrypted)
    except TlsError as error:
        raise TlsError(key_option, str(error)) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(key_option, "is not the key of the certificate") from None
        raise TlsError(option, f"no certificate and key in PEM that OpenSSL takes: {error.reason or error}") from None
    if tls.client_auth_type != "NoClientCert":
        option, authorities = _pem(tls, "client_ca")
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
        except ssl.SSLError:
            raise TlsError(option, "no certificate in PEM") from None
        context.verify_mode = _VERIFY[tls.client_auth_type]
    return context


def _limit(context: ssl.SSLContext, tls: TlsServer) -> None:
    """Only the suites and the curve that were asked for."""
    ciphers = [_CIPHERS[name] for name in tls.cipher_suites if name in _CIPHERS]
    if ciphers:
        try:
            context.set_ciphers(":".join(ciphers))
        except ssl.SSLError:
            raise TlsError("cipher_suites", "OpenSSL has none of them") from None
    elif tls.cipher_suites:  # of TLS 1.3 alone
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    for curve in tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[curve])


def _pem(tls: TlsServer, name: str) -> tuple[str, bytes]:
    """The option that says it, and the PEM text."""
    inline, path = getattr(tls, name), getattr(tls, f"{name}_file")
    if path is None:
        return name, (inline.get_secret_value() if isinstance(inline, SecretStr) else str(inline)).encode()
    try:
        return f"{name}_file", path.read_bytes()
    except OSError as error:
        raise TlsError(f"{name}_file", f"{path} cannot be read: {error.strerror or type(error).__name__}") from None


def _encrypted() -> str:
    """In place of OpenSSL's question at the terminal."""
    raise TlsError("key", "the key is encrypted, and the format has no place for its password: decrypt it")


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file that nobody else can read, in memory where there is such a thing: OpenSSL wants a name."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("pem")
        try:
            os.write(number, content)
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


class CurrentContext(ssl.SSLContext):
    """A context that hands each new connection the context of the moment, whole: also who must show a certificate.

    OpenSSL's own way, to swap the context during the handshake, changes the certificate alone.
    """

    _current: Callable[[], ssl.SSLContext]

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> Self:
        """Ask `current` at each connection."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """What asyncio calls for each connection that it accepts."""
        return self._current().wrap_bio(*arguments, **options)
