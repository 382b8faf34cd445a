"""What workers answer that they run, of which some began before events were heard.

Verified with Celery 5.7.0 and 5.4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskq_exporter_celery.events import NUMBER, is_name, is_queue
from taskq_exporter_celery.learned import the_only
from taskq_exporter_celery.worker import Worker

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower

#: The command, as celery/worker/control.py has it; it is asked once a connection: from then on events tell.
ACTIVE = "active"


def take(follower: Follower, replies: Mapping[str, Any], now: float) -> None:
    """Take the answers by worker, as far as they have the form that Celery gives them."""
    for name, told in replies.items():
        worker = follower.workers.get(name)
        if worker is None or not worker.up or not isinstance(told, list):
            continue
        if worker.beat is None:
            worker.active = len(told)
        for task in told:
            if isinstance(task, dict):
                _take_task(follower, worker, task, now)


def _take_task(follower: Follower, worker: Worker, told: Mapping[str, Any], now: float) -> None:
    uuid, name, at = (told.get(key) for key in ("id", "name", "time_start"))
    if not is_name(uuid) or not is_name(name) or follower.holds_back(uuid):  # the events that came tell more
        return
    if isinstance(at, NUMBER) and 0 < at < 1e11:  # null before it begins
        follower.tasks.found_running(uuid, name, _queue(told.get("delivery_info"), worker), worker, at, now)


def _queue(delivery: Any, worker: Worker) -> str:
    """The default exchange names the queue; else the only one that the worker reads, else ""."""
    key = delivery.get("routing_key") if isinstance(delivery, dict) and not delivery.get("exchange") else None
    if isinstance(key, str) and key and is_queue(key):
        return key
    return the_only(worker.queues)
