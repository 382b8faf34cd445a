"""What the adapter needs of a broker, whatever kind it is; and which kind a URL means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from taskq_exporter.api import AdapterError, Finding, Reason, Snapshot, Source

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower

T = TypeVar("T")


class Subscription(Protocol):
    """An open subscription to the events of workers and producers."""

    @property
    def commands(self) -> int:
        """Commands that it sent."""

    @property
    def lag(self) -> float | None:
        """How many seconds of messages wait to be read; None where that cannot be told."""

    async def read(self) -> Sequence[Any]:
        """The messages that have come, perhaps none; waits at most some seconds. Raises AdapterError where it ended."""

    def decode(self, message: Any) -> Sequence[Any]:
        """The events of a message. Raises UndecodableError."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one round of remote control brought."""

    #: How many listened; None where the broker does not tell.
    listeners: int | None
    #: By command and node. Nothing that was not asked for.
    replies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Of the nodes that were asked for by name and did not answer, those that certainly still listen.
    listening: frozenset[str] = frozenset()
    #: And those that certainly listen no more. Of the rest it is not known.
    gone: frozenset[str] = frozenset()
    #: How many answered in a form that is not read, e.g. pickle.
    unreadable: int = 0
    #: Nodes whose name another has too; in `listeners` they are one.
    twice: frozenset[str] = frozenset()
    #: Commands sent to the broker.
    commands: int = 0


#: Of commands that take some. A task's own arguments are told shortened.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"active": {"safe": True}}


def question(command: str, ticket: str, exchange: str, key: str) -> dict[str, Any]:
    """What kombu's mailbox asks all workers, as verified with kombu 5.7.0; the answers go to that exchange and key."""
    return {
        "method": command,
        "arguments": ARGUMENTS.get(command, {}),
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": ticket,
        "reply_to": {"exchange": exchange, "routing_key": key},
    }


class Broker(Protocol):
    """A connection to one broker: what connect() gives to the other hooks."""

    shared: Shared
    #: Whether collect() tells the consumers of queues; else workers are asked.
    tells_consumers: bool

    async def collect(self) -> Snapshot:
        """Queues now. Raises AdapterError where nothing can be read."""

    async def findings(self) -> list[Finding]:
        """What `check` says of the broker's side."""

    def subscribe(self) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events, on a connection of its own."""

    async def ask(self, commands: Sequence[str], nodes: Collection[str], timeout: float) -> Answers:
        """Ask all workers by remote control, and wait until all listeners have answered.

        Args:
            commands: Names of Celery's inspect commands, e.g. "ping", "stats", "active_queues".
            nodes: Workers that are known to live; others answer too.
            timeout: Seconds after which those that have not answered are silent.

        Raises:
            AdapterError: permission, where publishing or a reply key is not allowed; those of a connection.
        """


class Shared:
    """What the clients of one source share, also with those that come after an error."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key  # URL and options, while which are the same the rest holds
        #: Set while it follows.
        self.follower: Follower | None = None
        self._kept: dict[type[Any], Any] = {}

    def keep(self, kind: type[T]) -> T:
        """The source's one object of a class, made when it is first asked for."""
        if kind not in self._kept:
            self._kept[kind] = kind()
        return cast(T, self._kept[kind])


_shared: dict[str, Shared] = {}  # by source


def shared_of(source: Source) -> Shared:
    """What earlier clients of the same source left."""
    key = (source.url(), repr(source.options))
    shared = _shared.get(source.name)
    if shared is None or shared.key != key:
        shared = _shared[source.name] = Shared(key)
    return shared


#: By scheme of the URL: the package that speaks with such a broker.
KINDS = {
    **dict.fromkeys(("redis", "rediss", "sentinel", "unix", "socket", "redis+socket"), "on_redis"),
    **dict.fromkeys(("amqp", "amqps", "pyamqp"), "on_amqp"),
    **dict.fromkeys(("filesystem", "mongodb", "mongodb+srv", "pgmq", "qpid", "gcpubsub"), "on_kombu"),
}


def kind_of(url: str) -> Any:
    """The package for a URL's broker, with `connect(source)` and `grants(source)`.

    Raises:
        AdapterError: unsupported.
    """
    scheme, separator, _ = url.strip().partition("://")
    package = KINDS.get(scheme.lower()) if separator else None
    if package is None:
        kind = scheme if separator else "unnamed"
        known = ", ".join(f"{scheme}://" for scheme in KINDS)
        raise AdapterError(Reason.UNSUPPORTED, f"a broker of the kind {kind} is not supported: give one of {known}")
    return import_module(f"taskq_exporter_celery.{package}")


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[Broker]:
    """A client for the source's broker.

    Raises:
        AdapterError: unsupported, where there is none for its URL; those of the broker.
    """
    async with kind_of(source.url()).connect(source) as broker:
        yield broker
