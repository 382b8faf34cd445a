"""What py-amqp and RabbitMQ say went wrong, as AdapterError: a closed reason and a message of our own.

RabbitMQ's texts are looked at and never passed on: they name users. Verified with py-amqp 5.4.2, RabbitMQ 3.10.8.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from amqp.exceptions import AMQPError, ChannelError

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.on_amqp.frames import FrameError

#: Codes of a reply that closes a channel.
REFUSED, NOT_FOUND, LOCKED = 403, 404, 405

_RIGHTS = "give the user the rights that `taskq-exporter grants` prints"


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """Raise AdapterError in place of what py-amqp and the socket raise inside the block.

    Args:
        doing: What is named where a right is missing, e.g. "bind a queue to the exchange celeryev".

    Raises:
        AdapterError: connect, auth, permission, timeout, busy or protocol.
    """
    try:
        yield
    except AdapterError:
        raise
    except AMQPError as error:
        of_channel = isinstance(error, ChannelError) and error.method_sig not in (None, (0, 0))
        raise adapter_error(error.reply_code or 0, str(error.reply_text or ""), doing, of_channel=of_channel) from None
    except TimeoutError:
        text = "the broker did not answer in time: look at its load, its alarms and at the network"
        raise AdapterError(Reason.TIMEOUT, text) from None
    except ssl.SSLError as error:
        raise AdapterError(Reason.CONNECT, _tls(error)) from None
    except FrameError:
        raise AdapterError(Reason.PROTOCOL, "the answer is not AMQP 0-9-1: check the port of the URL") from None
    except OSError:
        text = "cannot reach the broker, or it closed the connection: check host and port, and whether it runs"
        raise AdapterError(Reason.CONNECT, text) from None
    except (AttributeError, TypeError, ValueError, KeyError):
        # py-amqp uses what it has set to None when a connection is lost.
        raise AdapterError(Reason.CONNECT, "the connection to the broker was lost") from None


def adapter_error(code: int, text: str, doing: str, *, of_channel: bool) -> AdapterError:
    """What a reply that closes a channel, or else the connection, means."""
    if "limit" in text and code in (REFUSED, 506, 530):
        return AdapterError(Reason.BUSY, "the broker has too many connections, channels or queues: raise its limits")
    if of_channel:
        if code == REFUSED:
            return AdapterError(Reason.PERMISSION, f"may not {doing}: {_RIGHTS}")
        if code == NOT_FOUND:
            return AdapterError(Reason.SCHEMA, f"cannot {doing}: it does not exist")
        return AdapterError(Reason.PROTOCOL, f"the broker refused to {doing}, with code {code}")
    if code == REFUSED:
        return AdapterError(Reason.AUTH, "the broker refused user or password: correct those of the URL")
    if code == 530 and "not found" in text:
        return AdapterError(
            Reason.CONNECT, "there is no such virtual host: check the path of the URL; // is the host /"
        )
    if code == 530:
        text = "the user has no rights in this virtual host: " + _RIGHTS
        return AdapterError(Reason.PERMISSION, text)
    if code == 320:
        return AdapterError(Reason.CONNECT, "the broker closed the connection: it stops, or somebody closed it")
    return AdapterError(Reason.PROTOCOL, f"the broker closed the connection, with code {code}")


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the broker's certificate is not trusted: set ssl_ca_certs in the URL's query, or check the host name"
    return "TLS failed: check the port, ssl_certfile and ssl_keyfile, and whether the broker speaks TLS there"
