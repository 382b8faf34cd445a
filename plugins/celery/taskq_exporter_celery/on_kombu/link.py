"""A kombu connection, used by one thread. Verified with kombu 5.7.0 and its transport filesystem."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import kombu

from taskq_exporter.api import AdapterError, Reason, Source


class Link:
    """One connection, which connects when it is first used."""

    def __init__(self, source: Source) -> None:
        self._url = source.url()
        self._options = source.options.transport_options
        self._timeout = source.timeout
        self._connection: Any = None
        #: Set where nobody waits any more.
        self.interrupted = False

    def open(self) -> Any:
        """The kombu.Connection. Raises AdapterError."""
        if self._connection is None:
            with errors():
                connection = kombu.Connection(
                    self._url, transport_options=dict(self._options), connect_timeout=self._timeout
                )
                connection.connect()
                self._connection = connection
        return self._connection

    def close(self) -> None:
        """Close it, as far as it goes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be in any state
                connection.release()

    def interrupt(self) -> None:
        """From any thread: begin nothing new. Nothing that all transports have ends what they wait for."""
        self.interrupted = True


@contextmanager
def errors() -> Iterator[None]:
    """Raise AdapterError in place of whatever a transport raises; its text may hold anything and is not passed on.

    Raises:
        AdapterError: connect, permission, timeout, unsupported.
    """
    try:
        yield
    except AdapterError:
        raise
    except ImportError as error:
        text = f"kombu needs the package {error.name or 'of this broker'}: install it beside the exporter"
        raise AdapterError(Reason.UNSUPPORTED, text) from None
    except TimeoutError:
        raise AdapterError(Reason.TIMEOUT, "the broker did not answer in time: look at it and the network") from None
    except PermissionError:
        raise AdapterError(Reason.PERMISSION, "the broker's files may not be used: check their rights") from None
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        text = f"the broker cannot be used ({type(error).__name__}): check the URL and transport_options"
        raise AdapterError(Reason.CONNECT, text) from None


def own_name(source: Source) -> str:
    """What our queues are called: always the same, so that what a killed exporter leaves behind does not pile up."""
    return f"taskq-exporter-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{source.name}@{socket.gethostname()}')}"
