"""Where kombu's Redis transport keeps things. Verified with kombu 5.7.0."""

from __future__ import annotations

from taskq_exporter_redis import escape_glob

from taskq_exporter_celery.options import CeleryOptions

_BINDING = "_kombu.binding."
_REMEMBERED = 20_000  # queues whose lists' names are kept: to make them takes as long as to read their lengths
#: Begins the names of lists that answers to us go to.
OURS = "taskq-exporter-"


class Layout:
    """Key names and channels of one database."""

    def __init__(self, options: CeleryOptions, database: int) -> None:
        self._prefix = options.global_keyprefix
        self._sep = options.sep
        self._event_exchange = options.event_exchange
        self.steps = tuple(sorted(set(options.priority_steps)))
        self._ready: dict[str, list[str]] = {}
        fanout = "/{db}." if options.fanout_prefix is True else options.fanout_prefix or ""
        if not options.sentinel_fanout_compat:  # else the topic of kombu < 5.4 over Sentinel, where all publish then
            fanout = fanout.replace("{db}", str(database))
        #: Pattern of the channels that carry events: a channel for each kind.
        self.events = escape_glob(f"{self._prefix}{fanout}{self._event_exchange}/") + "*"
        #: Channel of remote control, and the set that says to which list an answer goes.
        self.control_exchange = f"{options.control_exchange}.pidbox"
        self.control = f"{self._prefix}{fanout}{self.control_exchange}"
        self.reply_exchange = f"reply.{self.control_exchange}"
        self.reply_bindings = f"{self._prefix}{_BINDING}{self.reply_exchange}"
        #: Pattern of the lists that answers to us go to.
        self.reply_lists = escape_glob(f"{self._prefix}{OURS}") + "*" + escape_glob(f".{self.reply_exchange}")
        #: Messages delivered and not acknowledged: a hash by delivery tag, and the tags by time of delivery.
        self.unacked = f"{self._prefix}unacked"
        self.unacked_index = f"{self._prefix}unacked_index"
        #: Pattern of the sets that hold the bindings of one exchange each.
        self.bindings = escape_glob(f"{self._prefix}{_BINDING}") + "*"

    def ready(self, queue: str) -> list[str]:
        """The lists of a queue, one for each priority step: the first step 0 has no suffix."""
        keys = self._ready.get(queue)
        if keys is None:
            if len(self._ready) >= _REMEMBERED:
                self._ready.clear()
            key = f"{self._prefix}{queue}"
            keys = self._ready[queue] = [f"{key}{self._sep}{step}" if step else key for step in self.steps]
        return keys

    def reply_list(self, name: str) -> str:
        """The list that answers for a client of remote control go to; its name is also the routing key."""
        return f"{self._prefix}{name}.{self.reply_exchange}"

    def reply_binding(self, name: str) -> str:
        """What stands for it in `reply_bindings`: routing key, pattern and queue."""
        return self._sep.join((name, "", f"{name}.{self.reply_exchange}"))

    def exchange(self, key: bytes) -> str | None:
        """The exchange of a bindings key; None where it carries events or remote control instead of tasks."""
        name = key.decode(errors="replace").removeprefix(self._prefix + _BINDING)
        return None if name == self._event_exchange or name.endswith(".pidbox") else name

    def binding_key(self, exchange: str) -> bytes:
        """The key of an exchange's bindings."""
        return f"{self._prefix}{_BINDING}{exchange}".encode()

    def binding(self, member: bytes) -> tuple[str, str]:
        """Routing key and queue of a binding."""
        fields = member.decode(errors="replace").split(self._sep)
        return fields[0], fields[-1]
