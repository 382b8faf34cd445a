"""Where kombu's Redis transport keeps things. Verified with kombu 5.7.0."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import from_json
from taskq_exporter_redis import escape_glob

from taskq_exporter_celery.options import CeleryOptions

_BINDING = "_kombu.binding."
_NAME_LENGTH = 512  # what is kept of each of a held message's names
_BODY = b'[{"body": "'


class Layout:
    """Key names and channels of one database."""

    def __init__(self, options: CeleryOptions, database: int) -> None:
        self._prefix = options.global_keyprefix
        self._sep = options.sep
        self._event_exchange = options.event_exchange
        self.steps = tuple(sorted(set(options.priority_steps)))
        fanout = "/{db}." if options.fanout_prefix is True else options.fanout_prefix or ""
        fanout = fanout.replace("{db}", str(database))
        #: Pattern of the channels that carry events: a channel for each kind.
        self.events = escape_glob(f"{self._prefix}{fanout}{self._event_exchange}/") + "*"
        #: Messages delivered and not acknowledged: a hash by delivery tag, and the tags by time of delivery.
        self.unacked = f"{self._prefix}unacked"
        self.unacked_index = f"{self._prefix}unacked_index"
        #: Pattern of the sets that hold the bindings of one exchange each.
        self.bindings = escape_glob(f"{self._prefix}{_BINDING}") + "*"

    def ready(self, queue: str) -> list[str]:
        """The lists of a queue, one for each priority step: the first step 0 has no suffix."""
        return [f"{self._prefix}{queue}{self._sep}{step}" if step else f"{self._prefix}{queue}" for step in self.steps]

    def exchange(self, key: bytes) -> str | None:
        """The exchange of a bindings key; None where it carries events or remote control instead of tasks."""
        name = key.decode(errors="replace").removeprefix(self._prefix + _BINDING)
        return None if name == self._event_exchange or name.endswith(".pidbox") else name

    def binding(self, member: bytes) -> tuple[str, str]:
        """Routing key and queue of a binding."""
        fields = member.decode(errors="replace").split(self._sep)
        return fields[0], fields[-1]


class Bindings:
    """Which queue a message goes to."""

    def __init__(self) -> None:
        self.queues: frozenset[str] = frozenset()
        self._routes: dict[tuple[str, str], set[str]] = {}
        self._exchanges: dict[str, set[str]] = {}

    def replace(self, bindings: Iterable[tuple[str, str, str]]) -> None:
        """Take over (exchange, routing key, queue) of all bindings."""
        self._routes, self._exchanges = {}, {}
        for exchange, routing_key, queue in bindings:
            if queue:
                self._routes.setdefault((exchange, routing_key), set()).add(queue)
                self._exchanges.setdefault(exchange, set()).add(queue)
        self.queues = frozenset(q for queues in self._exchanges.values() for q in queues)

    def queue(self, exchange: str, routing_key: str) -> str:
        """The queue, or "" where several are possible or none is known."""
        if not exchange:
            return routing_key
        for queues in (self._routes.get((exchange, routing_key)), self._exchanges.get(exchange)):
            if queues and len(queues) == 1:
                return next(iter(queues))
        return ""


class Held(NamedTuple):
    """A message that a worker holds."""

    id: str
    exchange: str
    routing_key: str
    eta: float | None  # Unix seconds
    retries: int


def parse_held(value: bytes) -> Held:
    """What an entry of `unacked` says: `[message, exchange, routing_key]` in JSON. The task's arguments stay unread.

    Raises:
        ValueError: Where it is something else.
    """
    doc: Any
    try:
        # The body comes first, in base64: its end is the next quote.
        doc = from_json(b'[{"":"' + value[value.index(b'"', len(_BODY)) :]) if value.startswith(_BODY) else None
    except ValueError:
        doc = None
    try:
        message, exchange, routing_key = doc or from_json(value)
        headers, properties = message.get("headers") or {}, message.get("properties") or {}
        retries = headers.get("retries")
        return Held(
            str(headers.get("id") or properties.get("correlation_id") or "")[:_NAME_LENGTH],
            str(exchange or "")[:_NAME_LENGTH],
            str(routing_key or "")[:_NAME_LENGTH],
            parse_time(headers.get("eta")),
            retries if isinstance(retries, int) else 0,
        )
    except (TypeError, AttributeError) as error:
        raise ValueError("not a message of kombu") from error


def parse_time(text: object) -> float | None:
    """Unix seconds of an ISO 8601 time as Celery writes it, or None. One without an offset is UTC.

    Celery sends its own timezone along since version 4; one without is from `enable_utc`, which is UTC.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
