"""What one source said last and in the last minutes, from the reports of pages: nothing collects by itself. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping, Set
from math import inf, isnan, nan

from taskq_exporter.api import Outcome, State
from taskq_exporter.counts.names import clean
from taskq_exporter.report import SourceReport
from taskq_exporter.schema import CAPPED_LABELS

__all__ = ["History"]

#: Seconds between two samples at least, how many are kept, and for how long (seconds).
EVERY = 5.0
POINTS = 60
KEEP = 900.0
#: Rates are over so many seconds, or over the last step where nobody looked so often.
RATE_WINDOW = 300.0

#: Operations are over so many seconds: some servers are asked more seldom than samples are taken.
OPERATIONS_WINDOW = 60.0

#: What a database counts as an operation, where it counts rows too.
TRANSACTIONS = frozenset({"commit", "rollback"})
FINISHED = "taskq_tasks_finished_total"
#: Outcomes that somebody has to look at; a task that was cancelled or expired ended as it was told to.
FAILED = frozenset(o.value for o in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REJECTED, Outcome.DEAD, Outcome.LOST))


class _Track:
    """One queue: at each sample what was ready, and what finished and failed since the one before; NaN: not known."""

    __slots__ = ("failed", "failed_total", "finished", "finished_total", "ready")

    def __init__(self, samples: int) -> None:
        self.ready, self.finished, self.failed = (array("d", [nan]) * samples for _ in range(3))
        self.finished_total: float | None = None
        self.failed_total: float | None = None

    def add(self, ready: float, finished: float | None, failed: float | None) -> None:
        """Add a sample; totals are None while nobody counts."""
        self.ready.append(ready)
        self.finished.append(_grown(self.finished_total, finished))
        self.failed.append(_grown(self.failed_total, failed))
        self.finished_total, self.failed_total = finished, failed

    def drop(self, n: int) -> None:
        """Forget the oldest n samples."""
        for values in (self.ready, self.finished, self.failed):
            del values[:n]

    def empty(self) -> bool:
        """Whether the queue is gone, and nothing of it ended."""
        return all(map(isnan, self.ready)) and not any(grown > 0 for grown in self.finished)


class History:
    """The last report of a source, and samples of its queues, one every EVERY seconds; times are of a steady clock."""

    def __init__(self, queues: int = CAPPED_LABELS["queue"]) -> None:
        self.report: SourceReport | None = None  # the last one
        self.noted_at = -inf
        self._limit = queues
        self._times: array[float] = array("d")
        self._tracks: dict[str, _Track] = {}
        self._tells: Set[str] = frozenset()  # the outcomes that this source counts by queue
        self._operations: deque[tuple[float, int]] = deque()  # when, and the total that the server keeps

    def note(self, report: SourceReport, now: float) -> None:
        """Keep the report of a page, and a sample of it where the last one is old enough."""
        self.report, self.noted_at = report, now
        if self._times and now - self._times[-1] < EVERY:
            return
        ready = {}
        if report.snapshot is not None:
            ready = {clean(queue.name): float(queue.tasks.get(State.READY, nan)) for queue in report.snapshot.queues}
        finished, failed, self._tells = _totals(report)
        for name in ready:
            if name not in self._tracks and len(self._tracks) < self._limit:
                self._tracks[name] = _Track(len(self._times))
        self._take_operations(report, now)
        self._times.append(now)
        for name, track in self._tracks.items():
            if report.follower_up:  # a series that is not there yet will begin at 0
                track.add(ready.get(name, nan), finished.get(name, 0.0), failed.get(name, 0.0))
            else:
                track.add(ready.get(name, nan), None, None)
        self._forget(now)

    def ready(self, queue: str) -> tuple[float | None, ...]:
        """How many tasks were ready in the last minutes, oldest first; None where that is not known."""
        track = self._tracks.get(queue)
        if track is None:
            return ()
        if isnan(sum(track.ready)):
            return tuple(None if isnan(n) else n for n in track.ready)
        return tuple(track.ready)  # most often: a page has thousands

    def finished_per_second(self, queue: str) -> float | None:
        """Tasks that ended for good in the last minutes, however; None while that is not known."""
        track = self._tracks.get(queue)
        if track is None or track.finished_total is None or not self._tells:
            return None
        return self._rate(track.finished)

    def failed_per_second(self, queue: str) -> float | None:
        """Tasks of these that ended badly."""
        track = self._tracks.get(queue)
        if track is None or track.failed_total is None or not self._tells & FAILED:
            return None
        return self._rate(track.failed)

    @property
    def operations_per_second(self) -> float | None:
        """What the server does for everybody: commands, of a database transactions; None while that is not known."""
        if len(self._operations) < 2:
            return None
        (begun, before), (at, now) = self._operations[0], self._operations[-1]
        return (now - before) / (at - begun)

    def _rate(self, grown: array[float]) -> float | None:
        times = self._times
        first = max(bisect_right(times, times[-1] - RATE_WINDOW), 1)  # the first step that counts
        if first >= len(times):
            return None
        total = sum(grown[first:])
        if not isnan(total):  # most often: a page has thousands
            return total / (times[-1] - times[first - 1])
        known = [i for i in range(first, len(times)) if not isnan(grown[i])]
        seconds = sum(times[i] - times[i - 1] for i in known)
        return sum(grown[i] for i in known) / seconds if seconds else None

    def _forget(self, now: float) -> None:
        old = sum(1 for at in self._times if now - at > KEEP)
        drop = max(old, len(self._times) - POINTS)
        if drop:
            del self._times[:drop]
            for name, track in list(self._tracks.items()):
                track.drop(drop)
                if track.empty():
                    del self._tracks[name]

    def _take_operations(self, report: SourceReport, now: float) -> None:
        broker = report.snapshot.broker if report.snapshot is not None else None
        commands = broker.commands if broker is not None else {}
        kinds = TRANSACTIONS & commands.keys() or commands.keys()
        total, kept = sum(commands[kind] for kind in kinds), self._operations
        if not kinds or (kept and total < kept[-1][1]):  # not known, or the server counts anew
            kept.clear()
        if kinds:
            kept.append((now, total))
        while len(kept) > 2 and now - kept[0][0] > OPERATIONS_WINDOW:
            kept.popleft()


def _grown(before: float | None, now: float | None) -> float:
    """What was added; a smaller total means that series were forgotten or began anew, and is no work."""
    return nan if before is None or now is None else max(now - before, 0.0)


def _totals(report: SourceReport) -> tuple[Mapping[str, float], Mapping[str, float], Set[str]]:
    """Finished and failed tasks by queue as the ledger counts them, and the outcomes that it tells of any queue."""
    finished: dict[str, float] = defaultdict(float)
    failed: dict[str, float] = defaultdict(float)
    tells = set()
    for (queue, _task, outcome, *_), value, _born in report.ledger.counters.get(FINISHED, ()):
        if queue:
            tells.add(outcome)
            finished[queue] += value
            if outcome in FAILED:
                failed[queue] += value
    return finished, failed, tells
