"""Targets that a request names: URLs so plain that every client reads them alike, and which of them are allowed. Pure.

Whoever may ask for a page must not reach other servers with it, nor have the exporter's password sent to them. So there
is no userinfo, no query, no list of hosts and no address in disguise in a target: its module has what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urlencode

__all__ = ["Allowed", "Target", "TargetError", "parse_allowed", "parse_target"]

MAX_LENGTH = 256
#: Schemes without a host: what they name is on the exporter's own machine.
LOCAL = frozenset({"file", "filesystem", "memory", "socket", "sqlite", "unix"})

_SCHEME = r"([a-z][a-z0-9+]*)"
_ADDRESS = r"\[[0-9a-f:.]+\]"
_TARGET = re.compile(rf"{_SCHEME}://({_ADDRESS}|[a-z0-9._-]+)(?::(\d+))?(?:/((?:[a-z0-9._~-]|%2f)*))?", re.A | re.I)
_ALLOWED = re.compile(
    rf"{_SCHEME}://({_ADDRESS}|[a-z0-9._*-]+)(?::(\d+|\*))?(?:/((?:[a-z0-9._~*-]|%2f)*))?", re.A | re.I
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.A)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.A)
_IPV4_GLOB = re.compile(r"[\d*]+(\.[\d*]+){3}", re.A)

FORM = "SCHEME://HOST[:PORT][/PATH], without user, password and query"


class TargetError(ValueError):
    """A target that is none. Its text does not repeat the target, which may hold a password."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its one spelling."""

    scheme: str
    host: str  # lower case; an IPv6 address in brackets
    port: int | None = None
    path: str = ""  # without the / before it

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}" + (f"/{self.path}" if self.path else "")

    def url(self, username: str, password: str, query: Mapping[str, str]) -> str:
        """The same with credentials and options, escaped."""
        user = quote(username, safe="") + (f":{quote(password, safe='')}" if password else "")
        plain = str(self).replace("://", f"://{user}@" if user else "://", 1)
        return f"{plain}?{urlencode(query)}" if query else plain


def parse_target(text: str) -> Target:
    """The target that a text names. Raises TargetError."""
    match = _TARGET.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise TargetError(f"write the target as {FORM}")
    scheme, host, port, path = _normal(match)
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except AddressValueError:
            raise TargetError("the target's host is no IPv6 address") from None
    elif not _is_host(host):
        raise TargetError("the target's host is neither a name nor an IP address in its usual form")
    return Target(scheme, host, _port(port), path)


@dataclass(frozen=True, slots=True)
class Allowed:
    """A glob over targets: scheme and dots are literal, a * stands for any part of one name between dots or slashes."""

    scheme: str
    host: str
    port: int | str | None  # "*": any, and none
    path: str

    def matches(self, target: Target) -> bool:
        """Whether a target is allowed: an address only by a glob of addresses, a name only by one of names."""
        return (
            self.scheme == target.scheme
            and _kind(self.host) == _kind(target.host)
            and _glob(self.host, target.host, ".")
            and self.port in ("*", target.port)
            and _glob(self.path, target.path, "/")
        )


@lru_cache(maxsize=1000)
def parse_allowed(text: str) -> Allowed:
    """The glob that a text is. Raises TargetError."""
    match = _ALLOWED.fullmatch(text)
    if match is None:
        raise TargetError(f"write it as {FORM}; a * stands for a part of one name, e.g. redis://*.brokers:6379/*")
    scheme, host, port, path = _normal(match)
    if scheme.rpartition("+")[2] in LOCAL or scheme.partition("+")[0] in LOCAL:
        raise TargetError(f"{scheme}:// is no server on the network")
    digit = "1" if _IPV4_GLOB.fullmatch(host) else "x"
    number = None if port == "*" else _port(port)
    # what no target can be would never be allowed
    example = parse_target(str(Target(scheme, host.replace("*", digit), number, path.replace("*", "x"))))
    host = example.host if host.startswith("[") else host
    return Allowed(scheme, host, port if port == "*" else number, path)


def _normal(match: re.Match[str]) -> tuple[str, str, str | None, str]:
    scheme, host, port, path = match.groups()
    path = (path or "").replace("%2f", "%2F")
    if path in (".", ".."):
        raise TargetError("the target's path is no name")
    return scheme.lower(), host.lower(), port, path


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) > 5 or not 0 < int(text) < 65536:
        raise TargetError("the target's port is not between 1 and 65535")
    return int(text)


def _is_host(host: str) -> bool:
    """A name, or an IPv4 address as four numbers: clients also take 0x7f.1 and 2130706433 for addresses."""
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _is_ipv4(host)
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels))


def _kind(host: str) -> str:
    return "IPv6" if host.startswith("[") else "IPv4" if _IPV4_GLOB.fullmatch(host) else "name"


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _glob(glob: str, text: str, separator: str) -> bool:
    return re.fullmatch(re.escape(glob).replace(r"\*", f"[^{separator}]*"), text) is not None
