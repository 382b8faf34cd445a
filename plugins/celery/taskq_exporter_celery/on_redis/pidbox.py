"""Remote control by hand: a question on the workers' channel, and their answers from a list of our own.

Verified with workers of Celery 5.7.0 and kombu 5.7.0, and of Celery 5.4.0 and kombu 5.4.2. kombu's own client
waits until a whole second brought no answer; here PUBLISH tells how many listen, and so when all have answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pydantic_core import from_json
from taskq_exporter_redis import RedisClient, escape_glob

from taskq_exporter.api import AdapterError, Reason
from taskq_exporter_celery.broker import Answers, question
from taskq_exporter_celery.on_redis.layout import OURS, Layout

#: Seconds after which Redis deletes the list of a round that was killed.
LEFT_OVER = 30.0
#: Answers to read at once, and bytes to read in a round.
SLICE = 100
MAX_BYTES = 64 * 1024 * 1024
#: Seconds between looks at the list: at first, and at last.
SOON, LATER = 0.001, 0.1
#: Seconds that cleaning up may take.
CLEAN_UP = 1.0


async def ask(
    redis: RedisClient, layout: Layout, commands: Sequence[str], nodes: Collection[str], timeout: float
) -> Answers:
    """One round; see taskq_exporter_celery.broker.Broker.ask.

    What answers too late goes nowhere: the binding is gone, and each round has a list of its own.

    Raises:
        AdapterError: permission; cost, where the answers are too large; those of a connection.
    """
    sent = redis.commands_sent
    name = f"{OURS}{uuid4()}"
    answers = layout.reply_list(name)
    tickets = {str(uuid4()): command for command in commands}
    try:
        await redis.replies(
            [
                ("SADD", layout.reply_bindings, layout.reply_binding(name)),
                ("RPUSH", answers, ""),  # answers are pushed before it: the list lasts, and so does its expiry
                ("PEXPIRE", answers, int((timeout + LEFT_OVER) * 1000)),
            ]
        )
        published = await redis.replies(
            [("PUBLISH", layout.control, _question(layout, name, *t)) for t in tickets.items()]
        )
        round_ = _Round(tickets, listeners=int(min(published, default=0)))
        await _read(redis, answers, round_, timeout)
    finally:
        await _clean_up(redis, layout, name)
    listening, gone = round_.silent(nodes)
    return Answers(
        listeners=round_.listeners,
        replies=round_.replies,
        listening=listening,
        gone=gone,
        unreadable=max(round_.unreadable.values(), default=0),
        twice=frozenset(round_.twice),
        commands=redis.commands_sent - sent,
    )


def rights(layout: Layout) -> list[str]:
    """What a round takes in an ACL: to publish, and to own a reply list and its binding."""
    return [
        f"~{escape_glob(layout.reply_bindings)}",
        f"~{layout.reply_lists}",
        f"&{escape_glob(layout.control)}",
        *("-@all", "+sadd", "+srem", "+rpush", "+pexpire", "+lrange", "+del", "+publish"),
    ]


class _Round:
    """What has been answered so far."""

    def __init__(self, tickets: Mapping[str, str], listeners: int) -> None:
        self.replies: dict[str, dict[str, Any]] = {command: {} for command in tickets.values()}
        self.unreadable: Counter[str] = Counter()  # by command
        #: Nodes whose name another has too.
        self.twice: set[str] = set()
        self._tickets = tickets
        self._listeners = listeners
        self._answers: Counter[str] = Counter()  # by command

    @property
    def complete(self) -> bool:
        """True when every listener has answered everything; beat answers ping alone, and only it answers less."""
        schedulers = sum(node.startswith("celerybeat@") for node in self.answered)
        return all(self._answers[c] + (c != "ping" and schedulers) >= self._listeners for c in self.replies)

    @property
    def answered(self) -> frozenset[str]:
        """The nodes whose answers were read."""
        return frozenset(node for told in self.replies.values() for node in told)

    @property
    def listeners(self) -> int:
        """How many were asked; those of one name are one."""
        return self._listeners - max(self._answers[c] - self.unreadable[c] - len(self.replies[c]) for c in self.replies)

    def take(self, message: bytes) -> None:
        """An answer; what else somebody puts into our list is none."""
        try:
            envelope = from_json(message)
            command = self._tickets[envelope["headers"]["ticket"]]
        except (ValueError, TypeError, KeyError):
            return
        self._answers[command] += 1
        try:
            if envelope["content-type"] != "application/json":
                raise ValueError("never pickle, which runs code")
            told = from_json(base64.b64decode(envelope["body"]))
        except (ValueError, TypeError, KeyError):
            told = None
        if not isinstance(told, dict):
            self.unreadable[command] += 1
            return
        self.twice |= told.keys() & self.replies[command].keys()
        self.replies[command] |= told

    def silent(self, nodes: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Of those that did not answer: who listens, because as many do so in silence; and who is gone, if nobody does.

        Where fewer listen than did not answer, it may be any of them.
        """
        missing, silent = frozenset(nodes) - self.answered, self._listeners - max(self._answers.values(), default=0)
        nobody = frozenset[str]()
        if self.unreadable:
            return nobody, nobody
        if silent <= 0:
            return nobody, missing
        return (missing if len(missing) <= silent else nobody), nobody


def _question(layout: Layout, name: str, ticket: str, command: str) -> str:
    """A message as kombu's mailbox sends it, without the time of expiry, which clocks that differ would make wrong."""
    body = question(command, ticket, layout.reply_exchange, name)
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": layout.control_exchange, "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": ticket,
            },
        }
    )


async def _read(redis: RedisClient, answers: str, round_: _Round, timeout: float) -> None:
    """Read the list from its old end until all have answered, or time is up."""
    clock = asyncio.get_running_loop().time
    until = clock() + timeout
    read, size, pause = 1, 0, SOON  # the first one is ours
    while not round_.complete:
        (messages,) = await redis.replies([("LRANGE", answers, -read - SLICE, -read - 1)])
        for message in messages:
            round_.take(message)
            size += len(message)
        read += len(messages)
        if size > MAX_BYTES:
            raise AdapterError(Reason.COST, f"the answers of workers are larger than {MAX_BYTES >> 20} MiB")
        if len(messages) < SLICE:
            if clock() >= until:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LATER)


async def _clean_up(redis: RedisClient, layout: Layout, name: str) -> None:
    """Take back what the round wrote, also where it is being cancelled. A list that stays, because the server is gone,
    expires.
    """
    commands = (("SREM", layout.reply_bindings, layout.reply_binding(name)), ("DEL", layout.reply_list(name)))
    task = asyncio.create_task(redis.pipeline(commands))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    with suppress(AdapterError, TimeoutError):
        async with asyncio.timeout(CLEAN_UP):
            await asyncio.shield(task)
