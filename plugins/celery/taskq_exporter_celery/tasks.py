"""The tasks in flight: what events without a name are about, and what was counted already.

Verified with the events of Celery 5.7.0. A hard time limit sends `task-failed` twice; a retry keeps the uuid, and the
events of the next try come before `task-retried` of this one; `Ignore` sends nothing at the end.
"""

from __future__ import annotations

from taskq_exporter.api import DropReason, Ledger, Outcome
from taskq_exporter_celery.backlog import Backlog
from taskq_exporter_celery.learned import Learned
from taskq_exporter_celery.task import Run, Task
from taskq_exporter_celery.worker import Worker
from taskq_exporter_celery.workers import Workers

#: Ended tasks to remember, so that what comes late or twice is known; two generations of this size.
RECENT = 20_000
#: Seconds after which the next generation begins all the same.
RECENT_FOR = 2 * 3600.0
#: Seconds after which a task that never ended is forgotten.
TTL = 7 * 86400.0


class Tasks:
    """Bounded table of tasks, which counts each fact once in the ledger."""

    def __init__(self, ledger: Ledger, workers: Workers, *, limit: int = 200_000, recent: int = RECENT) -> None:
        self._ledger = ledger
        self._workers = workers
        self._limit = limit
        self._recent_limit = recent
        #: Those that have not ended, by uuid, in the order of their coming.
        self.live: dict[str, Task] = {}
        self._recent: dict[str, Task] = {}
        self._older: dict[str, Task] = {}
        self._turned = 0.0  # when this generation began
        self._learned = Learned()
        self.backlog = Backlog()

    def __len__(self) -> int:
        return len(self.live)

    def knows(self, uuid: str) -> bool:
        """True where some event of this task came before."""
        return uuid in self.live or uuid in self._recent or uuid in self._older

    def has_started(self, uuid: str) -> bool:
        """True where the task runs or has ended: then it is not reserved, though its message may be unacknowledged."""
        task = self._find(uuid)
        return task is not None and (bool(task.runs) or task.finished or task.presumed is not None)

    def whose(self, uuid: str) -> tuple[str, bool]:
        """The queue of a task, "" where it is not known, and whether it was tried before."""
        task = self._find(uuid)
        return (task.queue, task.retries > 0) if task is not None else ("", False)

    def runnable(self, uuid: str) -> float | None:
        """Since when, or from when on, the task can run by its task-sent event; None where none came."""
        task = self._find(uuid)
        return None if task is None else task.runnable

    def learn(self, uuid: str, name: str, retries: int, queue: str) -> None:
        """The message of this try lies in this queue, or was taken from it."""
        task = self._find(uuid)
        if task is None or task.received != (retries, name):
            self._learned.saw(uuid, name, retries, queue)
        if task is not None and task.runnable is None and task.received in (None, (retries, name)):  # else it is known
            task.name, task.queue = name, queue

    def sent(self, uuid: str, name: str, queue: str, retries: int, runnable: float, now: float) -> None:
        """A producer sent the task; `runnable` is then, or its ETA where that is later."""
        self._ledger.enqueued(queue, name)
        task = self._find(uuid)
        over = task is not None and (task.finished or (task.presumed is not None and retries <= task.retries))
        if task is None or (over and task.runnable is not None and not task.runs):
            task = self._add(uuid, name, queue, now)  # anew, where a fixed id is used again
        if retries < task.retries:
            return
        if task.runnable is not None and name != task.name and retries == task.retries:
            self._replace(task)
        task.name, task.queue = name, queue
        if retries > task.retries:
            task.earlier = None if task.waited else task.runnable
            task.retries, task.waited, task.begun = retries, False, None
        task.runnable = runnable
        if task.received is None or task.received[0] < retries:
            self.backlog.sent(queue, uuid, runnable)
        if task.begun is not None and not task.waited:  # came late
            task.waited = True
            where = task.runs[-1].worker.name if task.runs else ""
            self._ledger.waited(queue, task.begun - runnable, name, where)

    def received(self, uuid: str, name: str, retries: int, host: str, now: float, eta: float | None = None) -> None:
        """A worker got the task from the broker, to run it now or at its ETA."""
        worker = self._workers.at_work(host, now)
        worker.received(uuid, eta)
        task = self._find(uuid)
        if task is None or (task.finished and task.received is not None and not task.runs):
            task = self._add(uuid, name, self._learned.queue_of(uuid, name, retries, worker.queues), now)
        elif not task.name or (retries > task.retries and task.runnable is None):  # a retry may go elsewhere
            task.name, task.queue = name, self._learned.queue_of(uuid, name, retries, worker.queues)
        if task.presumed is not None:
            self._revive(task)
        if task.received == (retries, name):
            self._ledger.redelivered(task.queue, name, host)
        elif task.received is not None and task.received[0] == retries:  # its task-sent is to come
            self._replace(task)
            if name != task.name:
                task.name, task.queue = name, self._learned.queue_of(uuid, name, retries, worker.queues)
                task.runnable = None
        if retries > task.retries:
            task.retries, task.runnable, task.waited, task.begun, task.earlier = retries, None, False, None, None
        task.received = (retries, name)
        self.backlog.taken(task.queue, uuid)
        self._ledger.received(task.queue, name, host)

    def found_running(self, uuid: str, name: str, queue: str, worker: Worker, at: float, now: float) -> None:
        """A worker says that it runs the task, whose start came before events were heard: it is not counted."""
        task = self._find(uuid)
        if task is None:
            task = self._add(uuid, name, queue, now)
        elif task.runs or task.finished or task.presumed is not None:
            return
        elif not task.name:
            task.name, task.queue = name, queue
        worker.gave_up(uuid)
        run = Run(task, worker, at, min(at, now))
        run.heard = False
        worker.runs.add(run)
        if at <= worker.said and worker.surplus > 0:
            worker.account_for_one()
        task.runs = [run]

    def started(self, uuid: str, host: str, at: float, now: float) -> None:
        """A worker began an attempt."""
        task = self.live.get(uuid) or self._find(uuid) or self._add(uuid, "", "", now)
        if task.presumed is not None:
            self._revive(task)
        if task.finished:
            self._keep(task)
        worker = self._workers.at_work(host, now)
        worker.began(uuid, at)
        if task.runs and not task.runs[0].heard:  # the worker's answer was faster
            self._take_run(task, host)
        run = Run(task, worker, at, now)
        worker.runs.add(run)
        if at <= worker.said and worker.surplus > 0:
            worker.account_for_one()
        if task.runs is None:
            task.runs = [run]
        else:
            task.runs.append(run)
        task.excepted, task.begun = False, at
        self._ledger.started(task.queue, task.name, host)
        if task.earlier is not None:  # sending the next try overtook it
            self._ledger.waited(task.queue, at - task.earlier, task.name, host)
            task.earlier = task.begun = None
        elif task.runnable is not None and not task.waited:
            task.waited = True
            self._ledger.waited(task.queue, at - task.runnable, task.name, host)

    def ended(
        self,
        uuid: str,
        outcome: Outcome,
        host: str,
        at: float,
        now: float,
        *,
        runtime: float | None = None,
        exception: str = "",
        again: bool = False,
    ) -> None:
        """An attempt ended, or the task without one (revoked, expired).

        Args:
            uuid: Of the task.
            outcome: Of the attempt; the task's own too, unless `again`.
            host: The worker.
            at: When, by the worker's clock.
            now: When, by ours.
            runtime: Seconds that the worker says it took; else the time since it started.
            exception: Class name where one ended the attempt.
            again: The task will be tried again.
        """
        task = self.live.get(uuid) or self._find(uuid) or self._add(uuid, "", "", now)
        worker = self._workers.at_work(host, now)
        run = self._take_run(task, host)
        if run is None:
            worker.gave_up(uuid)
        else:
            worker.ended(run, at)
        if run is None and task.presumed is not None and task.presumed.worker.name == host:
            run = task.presumed
        if task.presumed is not None:
            self._revive(task)
        queue = (run.queue if run else "") or task.queue
        first = run is not None or not task.finished
        if exception and (first or not task.excepted):
            task.excepted = True
            self._ledger.exception(queue, task.name, exception)
        if not first:
            return
        if runtime is None and run is not None:
            runtime = at - run.started
        if runtime is not None:
            self._ledger.ran(queue, task.name, outcome, runtime, host)
        if again:
            if outcome is Outcome.RETRIED:
                self._ledger.retried(queue, task.name, host)
        elif not task.finished:
            task.finished = True
            self._ledger.finished(queue, task.name, outcome, host, exception=exception)
        self._retire(task)

    def requeued(self, uuid: str) -> None:
        """The worker itself gave the task back: that it comes again is no redelivery."""
        if task := self._find(uuid):
            task.received = None

    def drop(self, run: Run, *, ended: bool) -> None:
        """Forget a run: its worker is gone, or, with `ended`, stopped counting it before an event told the end.

        Of those that ended most never tell (`Ignore`), but for some the event is still on the way.
        """
        run.worker.runs.discard(run)
        if run.task.runs and run in run.task.runs:
            run.task.runs.remove(run)
        if ended and not run.task.runs:
            run.task.presumed = run
        self._retire(run.task)

    def sweep(self, now: float) -> None:
        """Forget the tasks that never ended, and those that ended long ago."""
        if not 0 <= now - self._turned < RECENT_FOR:
            self._older, self._recent, self._turned = self._recent, {}, now
        while self.live:
            oldest = next(iter(self.live.values()))
            if oldest.born > now - TTL:
                return
            self._evict(oldest)

    def _find(self, uuid: str) -> Task | None:
        return self.live.get(uuid) or self._recent.get(uuid) or self._older.get(uuid)

    def _add(self, uuid: str, name: str, queue: str, now: float) -> Task:
        self._recent.pop(uuid, None)
        self._older.pop(uuid, None)
        task = Task(uuid, name, queue, now)
        self._keep(task)
        return task

    def _keep(self, task: Task) -> None:
        self.live[task.uuid] = task
        if len(self.live) > self._limit:
            self._evict(next(iter(self.live.values())))
            self._ledger.dropped(DropReason.OVERFLOW)

    def _revive(self, task: Task) -> None:
        """An event of a task that was presumed to be over."""
        task.presumed = None
        self._keep(task)

    def _replace(self, task: Task) -> None:
        """`self.replace()` ended it without an event; another task goes on under its uuid."""
        for run in task.runs or ():
            run.worker.runs.discard(run)
        task.runs, task.received, task.waited, task.begun, task.earlier = None, None, False, None, None

    def _evict(self, task: Task) -> None:
        del self.live[task.uuid]
        for run in task.runs or ():
            run.worker.runs.discard(run)

    def _take_run(self, task: Task, host: str) -> Run | None:
        """The oldest run on that worker: the next try of a retry may have started before this one's end was told."""
        for run in task.runs or ():
            if run.worker.name == host:
                run.worker.runs.discard(run)
                task.runs.remove(run)  # type: ignore[union-attr]
                return run
        return None

    def _retire(self, task: Task) -> None:
        if task.runs or not (task.finished or task.presumed):
            return
        self.live.pop(task.uuid, None)
        task.runs = None
        self._recent[task.uuid] = task
        if len(self._recent) >= self._recent_limit:
            self._older, self._recent = self._recent, {}
