"""Which queues to look at. AMQP cannot list them. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: Where RabbitMQ holds tasks with an ETA for quorum queues: the native delayed delivery of kombu 5.5 and newer.
DELAYED = tuple(f"celery_delayed_{level}" for level in range(28))
#: All are declared together: this one tells whether it is used.
_SIGN = DELAYED[-1]
#: Seconds after which that is looked for again where it was not there, and a queue that was not shown to us.
_LATER = 600.0
#: Most queues to look at in a collect: far above the core's cap, which adds up what is over.
QUEUES = 10_000


#: Seconds after which a queue that was not there is looked for again where something named it meanwhile.
_SOON = 3.0


class Queues:
    """What is known of a source's queues; it outlives connections."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        #: When those that are not there were last looked for: RabbitMQ writes a line to its log each time.
        self._missing: dict[str, float] = {}
        #: When those that are not shown to us were looked at.
        self._refused: dict[str, float] = {}

    def due(self, named: Mapping[str, float], listed: Collection[str] | None, now: float, interval: float) -> list[str]:
        """The queues to look at now: those that are there first.

        Args:
            named: By configuration, events and workers, and when last; they may be missing.
            listed: By the management API: they are there. None where it is not asked.
            now: Seconds of the clock by which they were named.
            interval: Seconds after which to look again for one that was not there.
        """
        names = dict.fromkeys(named if listed is None else (*listed, *named))
        if listed is None:
            names |= dict.fromkeys(DELAYED if _SIGN in self._found else (_SIGN,))
        there = self._found if listed is None else {*self._found, *listed}
        self._found &= names.keys()
        self._missing = {name: since for name, since in self._missing.items() if name in names}
        self._refused = {n: since for n, since in self._refused.items() if n in names and 0 <= now - since < _LATER}

        def is_due(name: str) -> bool:
            since = self._missing.get(name)
            if since is None or now < since:  # a clock that was set back
                return True
            after = _LATER if name == _SIGN else _SOON if named[name] > since else interval
            return now - since >= after

        shown = [name for name in names if name not in self._refused]
        here = [name for name in shown if name in there]
        rest = [name for name in shown if name not in there and is_due(name)]
        return [*here, *rest][:QUEUES]

    @property
    def refused(self) -> list[str]:
        """Those that are not shown to us."""
        return list(self._refused)

    def found(self, queue: str) -> None:
        """It is there."""
        self._found.add(queue)
        self._missing.pop(queue, None)

    def missing(self, queue: str, now: float) -> None:
        """It is not there."""
        self._found.discard(queue)
        self._missing[queue] = now

    def refuse(self, queue: str, now: float) -> None:
        """It is not shown to us."""
        self._refused[queue] = now


def of_tasks(queue: str) -> bool:
    """Whether a queue can hold tasks: not events, remote control, replies, or what a server named."""
    return bool(queue) and not (
        queue.startswith(("celeryev.", "amq.gen-")) or queue.endswith(".pidbox") or queue in DELAYED
    )
