"""What workers hold and have not begun, by queue, as their events tell: AMQP tells it to nobody."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from taskq_exporter.api import State as S
from taskq_exporter_celery.follower import Follower

#: Seconds by which the management API's numbers may be late: those of its interval and of our own, with some room.
LATE = 15.0


def held(follower: Follower | None, now: float) -> Mapping[str, Counter[S]] | None:
    """Tasks by queue and state, or None where not everything that some worker holds is known.

    All is known of a worker that was followed since it started, or since nobody held anything, and sends task events;
    one that has begun nothing yet will do so where another does. One that listens in silence tells of nothing it gets.
    """
    if follower is None or not any(worker.task_events for worker in follower.workers):
        return None
    found: defaultdict[str, Counter[S]] = defaultdict(Counter)
    for worker in follower.workers:
        if worker.silent_since is not None:  # more may have been delivered to it since
            return None
        if worker.up is False:  # the broker has given out again what it held
            continue
        if not worker.whole or worker.silent_work or not (worker.task_events or worker.processed == 0):
            return None
        for uuid in worker.held:
            found[follower.tasks.whose(uuid)[0]][S.RESERVED] += 1
        for uuid, eta in worker.later.items():
            queue, tried = follower.tasks.whose(uuid)
            found[queue][S.RESERVED if eta <= now else S.RETRY if tried else S.SCHEDULED] += 1
    return found


def nothing_held(follower: Follower | None, now: float) -> None:
    """The management API says that no message is unacknowledged."""
    if follower is not None and now - follower.workers.followed_since > LATE:
        follower.workers.nothing_held()
