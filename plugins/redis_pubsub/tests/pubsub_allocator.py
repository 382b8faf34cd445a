"""An allocator and its workers, made by hand from the guide: the system has no library to install.

The guide: "Celery with a Redis pub/sub allocator". Times are naive and in UTC, as there.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import redis


def stamp(ago: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).replace(tzinfo=None).isoformat()


class Allocator:
    """Publishes tasks and allocations."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.redis.close()

    def register(self, name: str, *queues: str, pool_size: int | None = 4, status: str = "active") -> None:
        info: dict[str, str | int] = {
            "name": name,
            "queues": json.dumps(queues),
            "capabilities": json.dumps({"cpu": 4, "gpu": False}),
            "registered_at": "2026-01-01T00:00:00.000000",
            "status": status,
        }
        if pool_size is not None:
            info["pool_size"] = pool_size
        self.redis.hset(f"workers:{name}", mapping=info)

    def publish(self, task: str, queue: str, priority: int = 5, ago: float = 0.0, **more: Any) -> None:
        message = {
            "task_name": task,
            "queue": queue,
            "data": {"symbol": "AAPL"},
            "priority": priority,
            "timestamp": stamp(ago),
            "allocation_method": "pubsub",
            **more,
        }
        self.redis.publish(f"tasks:{queue}", json.dumps(message))
        if priority >= 8:
            self.redis.publish(f"tasks:priority:{queue}", json.dumps(message))

    def allocate(self, task: str, queue: str, worker: str, method: str = "direct", ago: float = 0.0) -> None:
        message = {"task_name": task, "queue": queue, "allocated_at": stamp(ago), "allocation_method": method}
        self.redis.publish(f"worker:{worker}", json.dumps(message))

    def store(self, queue: str, n: int) -> None:
        self.redis.rpush(f"queue:{queue}", *(["task"] * n))

    def run(self, worker: str, n: int) -> None:
        """As if the worker ran n tasks from now on."""
        for i in range(n):
            self.redis.set(f"worker:{worker}:active:{i}", stamp())


class Worker:
    """Listens to its own channel and those of its queues, also on a server that was away."""

    def __init__(self, url: str, name: str, *queues: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(f"worker:{name}", *(f"tasks:{queue}" for queue in queues))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()

    def _listen(self) -> None:
        while not self._ends.is_set():
            try:
                self._pubsub.get_message(timeout=0.05)
            except (redis.ConnectionError, redis.TimeoutError):
                self._ends.wait(0.05)
