"""How long the oldest ready task of each queue waits, for brokers whose messages nobody may look at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from taskq_exporter.api import Capability, State
from taskq_exporter_celery.view import SEND_SENT

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower


def ready_ages(
    follower: Follower | None, ready: Mapping[str, int], now: float
) -> tuple[dict[str, tuple[float, bool]], Capability]:
    """Ages in seconds by queue, from task-sent events; absent where none told of the tasks that are ready.

    Args:
        follower: None while it does not follow.
        ready: Ready tasks by queue, as the broker says.
        now: Unix seconds by our clock.

    Returns: The ages and whether each is a lower bound, and whether ages can be told at all.
    """
    told = follower is not None and follower.hears_of_sending
    capability = Capability(
        family="taskq_oldest_task_age_seconds",
        state=State.READY,
        reason="none" if told else "option",
        advice=SEND_SENT,
    )
    if follower is None or not told:
        return {}, capability
    ages = {}
    for queue, n in ready.items():
        oldest = follower.tasks.backlog.oldest(queue, n) if n else (now, False)
        if oldest is not None:
            ages[queue] = max(now - oldest[0], 0.0), oldest[1]
    return ages, capability
