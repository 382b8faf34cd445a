"""What redis-py raises, as AdapterError: a closed reason and a message of our own.

The server's and redis-py's texts are never passed on: they can repeat arguments, and with them a password.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskq_exporter.api import AdapterError, Reason

_BUSY_CODES = {"LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN"}
_CLUSTER_CODES = {"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"}
_COMMAND = re.compile(r"'([a-z_.|-]+)' command")


@contextmanager
def errors(doing: str = "") -> Iterator[None]:
    """Raise AdapterError in place of what redis-py and the socket raise inside the block.

    Args:
        doing: The command and key, named in the message of a refused command.

    Raises:
        AdapterError: connect, auth, permission, timeout, busy, unsupported or protocol.
    """
    try:
        yield
    except AdapterError:
        raise
    except (RedisError, OSError) as error:
        raise adapter_error(error, doing) from None


def adapter_error(error: Exception, doing: str = "") -> AdapterError:
    """The AdapterError that says what `error` of redis-py or of a socket means."""
    text = str(error)
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return AdapterError(Reason.TIMEOUT, "the server did not answer in time: look at its load and at the network")
    code = _code(error, text)
    if code in _BUSY_CODES:
        return AdapterError(Reason.BUSY, f"the server cannot answer now ({code}): wait until it can")
    if "max number of clients" in text or type(error).__name__ == "MaxConnectionsError":
        return AdapterError(Reason.BUSY, "out of connections: raise maxclients or close unused clients")
    if code == "NOAUTH":
        return AdapterError(Reason.AUTH, "the server wants a password: put user and password into the URL")
    if isinstance(error, AuthenticationError):
        return AdapterError(Reason.AUTH, "the server refused user or password: correct those of the URL")
    if code == "NOPERM":
        return AdapterError(Reason.PERMISSION, _permission(text, doing))
    if code in _CLUSTER_CODES:
        return AdapterError(Reason.UNSUPPORTED, "this is a node of a Redis Cluster, which is not supported")
    if "unknown command" in text or "unknown subcommand" in text:
        what = f" {doing}" if doing else " a command"
        return AdapterError(Reason.UNSUPPORTED, f"the server does not know{what}: it is too old or restricted")
    if text.startswith("DB index"):
        return AdapterError(Reason.CONNECT, "the server has no such database: correct the number in the URL")
    if type(error).__name__ == "MasterNotFoundError":
        if "AuthenticationError" in text:  # redis-py lists what each Sentinel said
            return AdapterError(Reason.AUTH, "the Sentinels refused us: put user and password into sentinel_kwargs")
        text = "no Sentinel that answers knows a master of that name that is up: check master_name and the Sentinels"
        return AdapterError(Reason.CONNECT, text)
    if isinstance(error, RedisConnectionError | OSError):
        return AdapterError(Reason.CONNECT, _connect(error))
    if type(error).__name__ == "InvalidResponse":
        return AdapterError(
            Reason.PROTOCOL, "what answers does not speak as Redis does: correct host and port of the URL"
        )
    what = f" to {doing}" if doing else ""
    return AdapterError(Reason.PROTOCOL, f"unexpected reply{what}: {code or type(error).__name__}")


def is_missing(error: Exception) -> bool:
    """True where the server says that the key or consumer group does not exist."""
    text = str(error)
    return isinstance(error, ResponseError) and ("no such key" in text or text.startswith("NOGROUP"))


def describe(command: Sequence[str | bytes | int | float]) -> str:
    """The command and its first argument, for a message; never AUTH's or HELLO's arguments."""
    words = [w.decode(errors="replace") if isinstance(w, bytes) else str(w) for w in command[:3]]
    if words[0].upper() in {"AUTH", "HELLO"}:
        return words[0]
    return " ".join(words if words[0].upper() == "XINFO" else words[:2])


def whole(command: Sequence[str | bytes | int | float]) -> str:
    """All of a command, for a person; never AUTH's or HELLO's credentials."""
    words = [word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in command]
    if words[0].upper() in {"AUTH", "HELLO"} and "AUTH" in (upper := [word.upper() for word in words]):
        words = [*words[: upper.index("AUTH") + 1], "***"]
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    return word if word.isprintable() and word and " " not in word else repr(word)


def _code(error: Exception, text: str) -> str:
    """The error code of a reply, e.g. WRONGTYPE; redis-py cuts off those that it knows."""
    known = getattr(error, "status_code", None)
    if isinstance(known, str) and known != "ERR":
        return known
    first = text.split(" ", 1)[0]
    if first.isalpha() and first.isupper() and first != "ERR":
        return first
    # redis-py before 7 keeps no code; its classes carry the same names in camel case.
    return {
        "NoPermissionError": "NOPERM",
        "BusyLoadingError": "LOADING",
        "MovedError": "MOVED",
        "AskError": "ASK",
        "ClusterCrossSlotError": "CROSSSLOT",
        "ClusterDownError": "CLUSTERDOWN",
        "MasterDownError": "MASTERDOWN",
        "TryAgainError": "TRYAGAIN",
    }.get(type(error).__name__, "NOAUTH" if text.startswith("Authentication required") else "")


def _permission(text: str, doing: str) -> str:
    if found := _COMMAND.search(text):
        return f"missing right: +{found[1]} (`taskq-exporter grants` prints what the user needs)"
    where = f" of {doing}" if doing else ""
    return f"missing right: the key{where} (`taskq-exporter grants` prints what the user needs)"


def _connect(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        match seen:
            case ssl.SSLCertVerificationError():
                return "the server's certificate is not trusted: name its CA with ?ssl_ca_certs=FILE in the URL"
            case ssl.SSLError():
                return "no TLS connection: look at the server's TLS port and its client certificates"
            case socket.gaierror():
                return "the host name is not known: correct the URL or the DNS"
            case ConnectionRefusedError():
                return "connection refused: is the server running, and the port right?"
            case FileNotFoundError():
                return "there is no such socket or certificate file: correct the path in the URL"
            case PermissionError():
                return "no right to open the socket or certificate file"
        seen = seen.__cause__ or seen.__context__
    return "the connection failed or was closed by the server: look at its log, at the port, and whether it wants TLS"
