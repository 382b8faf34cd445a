"""An AMQP connection, used by one thread: py-amqp opens it and keeps the rules, what is many goes past it.

Verified with py-amqp 5.4.2 and kombu 5.7.0.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import amqp
import kombu
from amqp import spec

from taskq_exporter.api import AdapterError, Reason, sending
from taskq_exporter_celery.on_amqp.errors import adapter_error, errors
from taskq_exporter_celery.on_amqp.frames import CHANNEL_CLOSE, CONNECTION_CLOSE, Frame, Frames, closed
from taskq_exporter_celery.options import CeleryOptions

#: Bytes to read at once.
_CHUNK = 1 << 18
#: Seconds that a goodbye may take.
_GOODBYE = 1.0
_TLS_OPTIONS = {"ca_certs", "certfile", "keyfile", "cert_reqs", "check_hostname", "ciphers", "server_hostname"}


class Link:
    """One connection. All methods but interrupt() are called in one thread."""

    def __init__(self, urls: str, options: CeleryOptions, timeout: float, *, heartbeat: int = 0) -> None:
        """Connects nothing yet.

        Args:
            urls: The broker's URL, or several (`a;b`), which are tried in turn.
            options: Of the source.
            timeout: Seconds that connecting and each answer may take.
            heartbeat: Seconds after which the broker gives up a client that sends nothing; 0: never.
        """
        self._urls = [url for url in map(str.strip, urls.split(";")) if url]
        self._options, self._timeout, self._heartbeat = options, timeout, heartbeat
        self._amqp: Any = None  # an amqp.Connection, whose stubs lack most
        self._interrupted = False
        self._frames = Frames()

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._amqp is not None

    def open(self) -> None:
        """Connect and log in, where that is not done.

        Raises:
            AdapterError: connect, auth, permission, timeout, busy, protocol.
        """
        if self._amqp is not None:
            return
        failed = AdapterError(Reason.CONNECT, "the URL names no broker")
        for url in self._urls:
            try:
                self._open(url)
                return
            except AdapterError as error:
                failed = error
        raise failed

    def _open(self, url: str) -> None:
        # One that hangs must leave time for the next.
        patience = self._timeout / (len(self._urls) + 1) if len(self._urls) > 1 else self._timeout
        connection = self._amqp = self._connection(url, patience)
        try:
            with errors("connect"), sending([f"connection.open {connection.virtual_host}"], str):
                if self._interrupted:
                    raise ConnectionAbortedError
                connection.connect()
                connection.transport.sock.settimeout(self._timeout)
        except AdapterError:
            with suppress(Exception):  # it closes the socket; py-amqp's state may be anything
                connection.collect()
            self._amqp = None
            raise

    def channel(self) -> Any:
        """A new amqp.Channel."""
        with errors("open a channel"), sending(["channel.open"], str):
            return self._connected.channel()

    def send(self, data: bytes) -> None:
        """Send frames."""
        with errors("send"):
            self._connected.transport.write(data)

    def read(self, wait: float) -> list[Frame]:
        """Frames that have come; none where nothing comes within `wait` seconds. Use it without py-amqp's reading.

        Raises:
            AdapterError: Also where the broker closes the connection, with what it says.
        """
        with errors("read"):
            connection = self._connected
            transport = connection.transport
            data, transport._read_buffer = transport._read_buffer, b""
            if not data:
                try:
                    transport.sock.settimeout(wait)
                    data = transport.sock.recv(_CHUNK)
                    if not data:
                        raise ConnectionResetError
                except TimeoutError:
                    return []
                finally:
                    transport.sock.settimeout(self._timeout)
            frames = self._frames.feed(data)
            for frame in frames:
                if frame.channel == 0 and frame.method == CONNECTION_CLOSE:
                    code, text = closed(frame.payload)
                    with suppress(Exception):  # it may be gone already
                        connection.send_method(spec.Connection.CloseOk)
                    raise adapter_error(code, text, "", of_channel=False)
            return frames

    def drain(self, wait: float) -> bool:
        """Have py-amqp read what comes next, for its callbacks; False where nothing comes within `wait` seconds."""
        with errors("read"):
            try:
                self._connected.drain_events(timeout=wait)
            except TimeoutError:
                return False
        return True

    def closed_channel(self, channel: Any, frame: Frame) -> tuple[int, str] | None:
        """Code and text where the frame closes that channel, which then is given up; else None."""
        if frame.channel != channel.channel_id or frame.method != CHANNEL_CLOSE:
            return None
        with errors("close a channel"):
            result = closed(frame.payload)
            channel.send_method(spec.Channel.CloseOk)
            channel.collect()
        return result

    def interrupt(self) -> None:
        """From any thread: end whatever this waits for, now and later."""
        self._interrupted = True
        transport = getattr(self._amqp, "_transport", None)
        sock = getattr(transport, "sock", None)
        if sock is not None:
            with suppress(
                OSError
            ):  # of an SSL socket too only the connection: its own shutdown() is not for two threads
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye, briefly, and close the socket."""
        connection, self._amqp = self._amqp, None
        if connection is None:
            return
        with suppress(Exception):  # it may be in any state
            if not self._interrupted:
                connection.transport.sock.settimeout(min(_GOODBYE, self._timeout))
                connection.close()
        with suppress(Exception):
            connection.collect()

    @property
    def server(self) -> tuple[str, str]:
        """Product and version, as the broker says."""
        told = self._connected.server_properties
        return str(told.get("product", "")).lower(), str(told.get("version", ""))

    @property
    def _connected(self) -> Any:
        if self._amqp is None:
            raise AdapterError(Reason.CONNECT, "not connected")
        return self._amqp

    def _connection(self, url: str, patience: float) -> Any:
        told = parse(url)
        options = self._options
        host = told.hostname or "localhost"
        tls = told.ssl or url.lower().startswith("amqps")
        port = told.port or (5671 if tls else 5672)
        return amqp.Connection(
            host=f"[{host}]:{port}" if ":" in host else f"{'127.0.0.1' if host == 'localhost' else host}:{port}",
            userid=told.userid or "guest",
            password=told.password or "guest",
            login_method=told.login_method or "PLAIN",
            virtual_host=options.virtual_host or told.virtual_host or "/",
            ssl=_tls(told.ssl, host) if tls else False,
            connect_timeout=patience,
            heartbeat=self._heartbeat,
            client_properties={"product": "taskq-exporter", "connection_name": "taskq-exporter"},
        )


def parse(url: str) -> Any:
    """The URL of one broker, as kombu understands it: a kombu.Connection, which is not connected.

    Raises:
        AdapterError: connect, where it is wrong.
    """
    scheme, separator, rest = url.partition("://")
    try:
        # Under the name amqp, kombu would take librabbitmq where that is installed.
        scheme = "amqps" if scheme.lower() == "amqps" else "pyamqp"
        return kombu.Connection(f"{scheme}{separator}{rest}")
    except (ValueError, TypeError, KeyError, AttributeError):
        text = "not an AMQP URL: write amqp://user:password@host:port/virtual_host, and %23, %2F, %3F, %40 for # / ? @"
        raise AdapterError(Reason.CONNECT, text) from None


def _tls(told: Any, host: str) -> dict[str, Any]:
    """Kombu's options from the URL's query, without their prefix. The host name is checked, unless told otherwise."""
    given = {key.removeprefix("ssl_"): value for key, value in told.items()} if isinstance(told, dict) else {}
    if unknown := given.keys() - _TLS_OPTIONS:
        raise AdapterError(Reason.CONNECT, f"the URL's query has an option that is not known: ssl_{min(unknown)}")
    checks = given.pop("check_hostname", True) and given.get("cert_reqs", ssl.CERT_REQUIRED) != ssl.CERT_NONE
    return {"server_hostname": host, **given} if checks else {k: v for k, v in given.items() if k != "server_hostname"}
