"""A follower and its clock, for tests of what it knows of workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from taskq_exporter_celery.broker import Answers
from taskq_exporter_celery.follower import GRACE, Follower
from taskq_exporter_celery.options import CeleryOptions

from taskq_exporter.api import Snapshot, Source, WorkerStats


class Recorder:
    """A ledger that adds up what it is told."""

    cursor: Any = None

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.queues: Counter[str] = Counter()  # of the tasks that were received

    def received(self, queue: str, task: str, worker: str = "") -> None:
        self.queues[queue] += 1

    def dropped(self, reason: str, n: int = 1) -> None:
        self.totals[reason] += n

    def workers_lost(self) -> None:
        self.totals["lost"] += 1

    def workers_started(self) -> None:
        self.totals["started"] += 1

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class World:
    """A follower and a clock."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_000_000.0
        self.ledger: Any = Recorder()
        source = Source(
            name="test", adapter="celery", url=lambda: "", options=CeleryOptions(**options), worker_ttl=600.0
        )
        self.follower = Follower(source, self.ledger, lambda: self.now)
        self.follower.inspected.counts_consumers = True
        self.follower.resume()

    def send(self, *events: dict[str, Any]) -> None:
        """Events, a millisecond apart."""
        for event in events:
            self.now += 0.001
            self.follower.feed([[{"timestamp": self.now, **event}]], lambda message: message)

    def beat(self, name: str = "w@h", n: int = 1, **more: Any) -> None:
        """Heartbeats, two seconds apart."""
        for _ in range(n):
            self.wait(2)
            self.send({"type": "worker-heartbeat", "hostname": name, "freq": 2.0, "active": 0, "pid": 1, **more})

    def online(self, name: str = "w@h", **more: Any) -> None:
        self.send({"type": "worker-online", "hostname": name, "active": 0, "processed": 0, "pid": 1, **more})

    def task(self, kind: str, uuid: str, host: str = "w@h", **more: Any) -> None:
        name = {"name": "t"} if kind == "received" else {}
        self.send({"type": f"task-{kind}", "hostname": host, "uuid": uuid, **name, **more})

    def answer(self, *nodes: str, listeners: int | None = None, queues: tuple[str, ...] = ("q",), **how: Any) -> None:
        """A round of remote control that these nodes answer."""
        names = [{"name": queue} for queue in queues]
        pool = {"implementation": f"celery.concurrency.{how.pop('pool', 'prefork')}:TaskPool", "max-concurrency": 2}
        stats = {"pool": pool, "pid": 1, "uptime": 60, "prefetch_count": 8, "total": {"t": how.pop("total", 0)}}
        replies = {
            "ping": {node: {"ok": "pong"} for node in nodes},
            "stats": {node: stats for node in nodes if not node.startswith("celerybeat@")},
            "active_queues": {node: names for node in nodes if not node.startswith("celerybeat@")},
        }
        heard = len(nodes) if listeners is None else listeners
        asked, self.now = self.now, self.now + 0.1
        answers = Answers(listeners=heard, replies=replies, **how)
        self.follower.inspected.take(answers, self.follower.workers, asked, self.now)

    def wait(self, seconds: float) -> Snapshot:
        """Let time pass, in the steps in which the adapter looks at the clock."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.5, until)
            self.follower.sweep()
        return self.follower()

    def stats(self, name: str = "w@h") -> WorkerStats:
        return {w.name: w for w in self.follower().workers}[name]

    def held(self) -> dict[str, int]:
        """Tasks that the worker holds, by state, as far as they are known."""
        self.wait(GRACE + 1)
        return {state: n for state, n in self.stats().tasks.items() if state != "running"}

    @property
    def missed(self) -> int:
        return int(self.ledger.totals["missed"])


def work(world: World, tasks: range, *, lost: int = 0) -> None:
    """Tasks of one worker; of the last `lost` of them no event tells."""
    for i in tasks:
        if i < tasks.stop - lost:
            world.task("received", str(i))
            world.task("started", str(i))
            world.task("succeeded", str(i), runtime=0.1)
