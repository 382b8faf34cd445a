"""What RabbitMQ's management API tells and AMQP does not: which queues there are, and what is unacknowledged.

Its numbers are up to 5 seconds old. Verified with RabbitMQ 3.10.8.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from taskq_exporter.api import AdapterError, BrokerStats, Reason, sending

#: Bytes of an answer; some 100,000 queues.
_MAX_BYTES = 32 * 1024 * 1024
_COLUMNS = "name,exclusive,auto_delete,messages_ready,messages_unacknowledged,consumers,message_bytes"
_UUID = re.compile(r"(^|\.)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$")


@dataclass(frozen=True, slots=True)
class Listed:
    """A queue as the list says; None is not known (yet)."""

    ready: int | None
    unacked: int | None
    consumers: int | None
    bytes: int | None


class Management:
    """Asks it; all methods but interrupt() are called in one thread."""

    def __init__(self, url: str, user: str, password: str, virtual_host: str, timeout: float) -> None:
        parts = urlsplit(url)
        try:
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            raise AdapterError(Reason.CONNECT, "the port of management_url is no number") from None
        self._path = parts.path.rstrip("/")
        self._tls = parts.scheme == "https"
        self._timeout = timeout
        self._virtual_host = quote(virtual_host, safe="")
        user, password = unquote(parts.username or "") or user, unquote(parts.password or "") or password
        self._account = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._connection: HTTPConnection | None = None
        #: Requests sent.
        self.commands = 0

    def queues(self) -> dict[str, Listed]:
        """The queues that may hold tasks: not those that belong to one client alone and go with it.

        Raises:
            AdapterError: connect, timeout, permission, schema, protocol.
        """
        listed = self._get(f"/api/queues/{self._virtual_host}?columns={_COLUMNS}")
        with _protocol():
            return {
                str(queue["name"]): Listed(
                    ready=_count(queue.get("messages_ready")),
                    unacked=_count(queue.get("messages_unacknowledged")),
                    consumers=_count(queue.get("consumers")),
                    bytes=_count(queue.get("message_bytes")),
                )
                for queue in listed
                if not queue.get("exclusive") and not (queue.get("auto_delete") and _UUID.search(queue["name"]))
            }

    def broker(self) -> BrokerStats:
        """The nodes together.

        Raises:
            AdapterError: permission, where the user lacks the tag `monitoring`; those of queues().
        """
        nodes = self._get("/api/nodes?columns=mem_used,mem_limit")
        overview = self._get("/api/overview?columns=object_totals.connections")
        with _protocol():
            totals = _object(_object(overview).get("object_totals", {}))
            return BrokerStats(
                memory_bytes=_sum(_object(node).get("mem_used") for node in nodes),
                memory_limit_bytes=_sum(_object(node).get("mem_limit") for node in nodes),
                connections={"": n} if (n := _count(totals.get("connections"))) is not None else {},
            )

    def interrupt(self) -> None:
        """From any thread: end whatever this waits for."""
        connection = self._connection
        sock = connection.sock if connection else None
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _get(self, path: str) -> Any:
        kind = HTTPSConnection if self._tls else HTTPConnection
        connection = self._connection = kind(
            self._host, self._port or (15671 if self._tls else 15672), timeout=self._timeout
        )
        self.commands += 1
        try:
            with sending([path], "GET {}".format):
                connection.request("GET", self._path + path, headers={"Authorization": f"Basic {self._account}"})
                answer = connection.getresponse()
            if answer.status != 200:
                raise _refused(answer.status)
            body = answer.read(_MAX_BYTES + 1)
            if len(body) > _MAX_BYTES:
                raise AdapterError(Reason.COST, "the management API lists too many queues: unset management_url")
            return json.loads(body)
        except TimeoutError:
            raise AdapterError(Reason.TIMEOUT, "the management API did not answer in time") from None
        except ssl.SSLError:
            text = "TLS to the management API failed: trust its certificate by SSL_CERT_FILE, or check management_url"
            raise AdapterError(Reason.CONNECT, text) from None
        except (HTTPException, ValueError):
            raise AdapterError(Reason.PROTOCOL, "management_url answers with something else than JSON") from None
        except OSError:
            text = "cannot reach the management API: check management_url, and whether rabbitmq_management is enabled"
            raise AdapterError(Reason.CONNECT, text) from None
        finally:
            self._connection = None
            connection.close()


class _protocol:
    """Raises AdapterError where an answer has not the form that is expected."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, TypeError | KeyError | AttributeError):
            raise AdapterError(Reason.PROTOCOL, "management_url answers something else than RabbitMQ's API") from None


def _refused(status: int) -> AdapterError:
    if status in (401, 403):
        text = "the management API refuses the user: give it the tag monitoring, as `taskq-exporter grants` says"
        return AdapterError(Reason.PERMISSION, text)
    if status == 404:
        return AdapterError(
            Reason.SCHEMA, "the management API knows no such virtual host, or management_url has a wrong path"
        )
    return AdapterError(Reason.PROTOCOL, f"the management API answers with status {status}")


def _object(value: Any) -> Any:
    """What it says of one thing; it writes an empty object as [], in the first seconds of a node for instance."""
    return {} if value == [] else value


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _sum(values: Any) -> int | None:
    known = [value for value in values if isinstance(value, int)]
    return sum(known) if known else None
