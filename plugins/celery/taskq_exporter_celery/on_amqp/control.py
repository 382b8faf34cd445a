"""Remote control: ask all workers, and collect what they answer, as kombu's mailbox does.

Verified with Celery 5.7.0 and 5.4.0, kombu 5.7.0 and RabbitMQ 3.10.8.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import amqp

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.broker import Answers, question
from taskq_exporter_celery.events import UndecodableError, decode_body, is_queue
from taskq_exporter_celery.on_amqp.errors import errors
from taskq_exporter_celery.on_amqp.link import Link
from taskq_exporter_celery.on_amqp.sizes import NAME_BYTES

#: Seconds to wait for workers that nobody knew, after all that are known have answered.
STRANGERS = 0.1
#: Bytes of one answer, and of all: what is more is not read.
MAX_ANSWER = 1024 * 1024
MAX_ANSWERS = 64 * 1024 * 1024
#: Most workers whose mailbox is looked for because they did not answer.
LOOKS = 100


class Round:
    """One round of questions, in the thread of the connection."""

    def __init__(self, link: Link, namespace: str, commands: Sequence[str], nodes: Collection[str]) -> None:
        """Asks nothing yet.

        Args:
            link: To use.
            namespace: The application's control_exchange.
            commands: To send, in one message each.
            nodes: Workers that are known to live.
        """
        self._link, self._namespace, self._nodes = link, namespace, frozenset(nodes)
        self._tickets = {str(uuid.uuid4()): command for command in commands}
        self._replies: dict[str, dict[str, Any]] = {command: {} for command in commands}
        self._unheard = False  # the broker says that nobody listens
        self._unreadable: Counter[str] = Counter()  # by command
        self._bytes = 0
        self._sent = 0

    def run(self, timeout: float) -> Answers:
        """Ask, and wait until all nodes have answered everything.

        Raises:
            AdapterError: permission, where publishing or a queue for answers is not allowed; those of a connection.
        """
        self._link.open()
        channel = self._link.channel()
        try:
            if self._ask(channel):
                self._collect(time.monotonic() + timeout)
            silent = sorted(self._nodes - self._answered())
            if self._unheard:
                listens: dict[str, bool | None] = dict.fromkeys(silent, False)
            else:
                listens = {node: self._listens(channel, node) for node in silent[:LOOKS]}
        finally:
            with errors("close a channel"):
                channel.close()  # and with it the queue for answers
        return Answers(
            listeners=0 if self._unheard else None,
            replies=self._replies,
            listening=frozenset(node for node, here in listens.items() if here),
            gone=frozenset(node for node, here in listens.items() if here is False),
            unreadable=max(self._unreadable.values(), default=0),
            commands=self._sent,
        )

    def _ask(self, channel: Any) -> bool:
        """Send the questions; False where nobody can hear them."""
        mailbox, replies = f"{self._namespace}.pidbox", f"reply.{self._namespace}.pidbox"
        key = f"taskq-exporter-{uuid.uuid4()}"
        queue = f"{key}.{replies}"
        with errors(f"declare a queue taskq-exporter-….{replies}"):
            arguments = {"x-queue-type": "classic", "x-max-length-bytes": MAX_ANSWERS}
            channel.queue_declare(queue, exclusive=True, auto_delete=True, arguments=arguments)
        try:
            with errors(f"bind a queue to the exchange {replies}"):
                channel.queue_bind(queue, replies, key)
        except AdapterError as error:
            if error.reason is not Reason.SCHEMA:
                raise
            with errors(f"declare the exchange {replies}, which exists once somebody has used `celery inspect`"):
                channel.exchange_declare(replies, "direct", durable=False, auto_delete=False)
            with errors(f"bind a queue to the exchange {replies}"):
                channel.queue_bind(queue, replies, key)
        with errors(f"consume from a queue taskq-exporter-….{replies}"):
            channel.basic_consume(queue, no_ack=True, exclusive=True, callback=self._take)
        channel.events["basic_return"].add(self._returned)
        self._sent += 3 + len(self._tickets)
        try:
            with errors(f"publish to the exchange {mailbox}"):
                for ticket, command in self._tickets.items():
                    channel.basic_publish(_question(command, ticket, replies, key), exchange=mailbox, mandatory=True)
                channel.basic_qos(0, 1, False)  # answered after the questions were refused, where they are
        except AdapterError as error:
            if error.reason is not Reason.SCHEMA:
                raise
            self._unheard = True  # no worker ever declared it
        return not self._unheard

    def _collect(self, until: float) -> None:
        complete = False
        while self._bytes < MAX_ANSWERS and not self._unheard:
            if not complete and self._nodes and self._nodes <= self._answered():
                complete, until = True, min(until, time.monotonic() + STRANGERS)
            left = until - time.monotonic()
            if left <= 0 or not self._link.drain(left):
                return

    def _answered(self) -> frozenset[str]:
        """Those that have answered everything."""
        first, *others = (frozenset(replies) for replies in self._replies.values())
        return first.intersection(*others)

    def _take(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        self._bytes += len(body)
        headers = message.headers or {}
        command = self._tickets.get(str(headers.get("ticket")))
        if command is None:
            return
        try:
            (answer,) = decode_body(message.properties.get("content_type"), body) if len(body) <= MAX_ANSWER else ()
            self._replies[command] |= {str(node): told for node, told in answer.items()}
        except (UndecodableError, ValueError, AttributeError):
            self._unreadable[command] += 1

    def _returned(self, *_: object) -> None:
        self._unheard = True

    def _listens(self, channel: Any, node: str) -> bool | None:
        """Whether the node's mailbox is there, and somebody reads it; None where that is not shown to us."""
        mailbox = f"{node}.{self._namespace}.pidbox"
        if len(mailbox.encode(errors="replace")) > NAME_BYTES or not is_queue(mailbox):
            return None  # a name that no worker can have
        self._sent += 1
        try:
            _, _, consumers = channel.queue_declare(mailbox, passive=True)
        except amqp.ResourceLocked:  # exclusive, as from Celery 5.7 on: it ends with its worker's connection
            return True
        except amqp.NotFound:
            return False
        except amqp.AccessRefused:
            return None
        return bool(consumers)


def _question(command: str, ticket: str, exchange: str, key: str) -> amqp.Message:
    """As kombu's mailbox sends it, to all."""
    return amqp.Message(
        json.dumps(question(command, ticket, exchange, key)),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=1,
        application_headers={"clock": 0, "expires": 0},  # a time would be read by clocks that differ from ours
    )
