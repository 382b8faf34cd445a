"""What workers answer to remote control: pool, slots, prefetch limit, queues; and who listens and does not answer.

In the background, never for a page. Everything else works without it. Verified with Celery 5.7.0 and 5.4.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from taskq_exporter.api import AdapterError, Capability, Finding, Ledger, Problem, Reason, Source, WorkerState
from taskq_exporter_celery import active
from taskq_exporter_celery.active import ACTIVE
from taskq_exporter_celery.broker import Answers, Broker
from taskq_exporter_celery.events import NAME_LENGTH, is_queue
from taskq_exporter_celery.worker import Worker
from taskq_exporter_celery.workers import Workers

if TYPE_CHECKING:
    from taskq_exporter_celery.follower import Follower

CapabilityReason = Literal["none", "permission", "option", "backend"]

COMMANDS = ("ping", "stats", "active_queues")
#: Seconds that workers have to answer. A worker that is slower is silent until it is heard of again.
PATIENCE = 2.0
#: Seconds between looks for workers that were not asked yet, and how often such a one is asked out of turn.
LOOK_EVERY = 1.0
TRIES = 3
#: Seconds for a round to clean up in, before it is cancelled again: less than the core gives a follower to end.
CLOSE_AGAIN = 0.5
#: Seconds until rights that were missing are tried again: each try stands in the ACL log.
REFUSED_EVERY = 600.0
#: Nodes with this prefix are schedulers, which answer ping alone (from Celery 5.7 on).
BEAT = "celerybeat@"
#: Queues of one worker to remember.
QUEUES = 1_000

_ASK = "set inspect: true"
_ALLOW = "give the rights that `taskq-exporter grants` prints, or set inspect: false"
_ANSWER = "some workers listen and do not answer in JSON: have each of them answer `celery inspect ping`"

BY_WORKER = ("taskq_worker_slots", "taskq_worker_prefetch_limit")


class Inspected:
    """What the rounds found: part of what the follower knows, and outlives connections as it does. Pure."""

    def __init__(self, *, switched_on: bool) -> None:
        #: Whether workers can be asked, in the words of a Capability; None before the first round.
        self.reason: CapabilityReason | None = None if switched_on else "option"
        #: Why the last round failed.
        self.error: AdapterError | None = None
        #: Whether consumers of queues are counted here, because the broker does not tell them.
        self.counts_consumers = False
        #: How many listen, do not answer, and are none of the workers we know of.
        self.strangers = 0
        #: How many answer in a form that is not read.
        self.unreadable = 0
        #: Names that several workers have.
        self.twice: frozenset[str] = frozenset()

    def failed(self, error: AdapterError, workers: Workers) -> None:
        """A round did not come about."""
        workers.nobody_knows()
        self.strangers = self.unreadable = 0
        self.error = None
        if error.reason is Reason.PERMISSION:
            self.reason = "permission"
        elif error.reason is Reason.UNSUPPORTED:
            self.reason = "backend"
        else:
            self.error = error

    def take(self, answers: Answers, workers: Workers, asked: float, now: float) -> None:
        """Take the answers to what was asked at that time."""
        replies = {command: answers.replies.get(command, {}) for command in COMMANDS}
        answered = {name for told in replies.values() for name in told if len(name) <= NAME_LENGTH}
        missing = [w for w in workers if (w.up or w.listens) and w.name not in answered and w.seen < asked]
        for name in answered:
            if not name.startswith(BEAT) and (worker := workers.answers(name, now)) is not None:
                _learn(worker, replies["stats"].get(name), replies["active_queues"].get(name), now)
        for worker in missing:
            listens = True if worker.name in answers.listening else False if worker.name in answers.gone else None
            workers.no_answer(worker, asked, listens=listens)
        silent = (answers.listeners or 0) - len(answered) - answers.unreadable
        self.strangers = max(silent - sum(w.silent_since is not None or w.presumed_busy for w in missing), 0)
        self.reason, self.error = "none", None
        self.unreadable, self.twice = answers.unreadable, answers.twice

    def readers(self, workers: Workers) -> dict[str, tuple[int, int]]:
        """By queue: how many workers read it and live, and their slots together."""
        found: dict[str, tuple[int, int]] = {}
        for worker in workers:
            for queue in (worker.queues or ()) if worker.up else ():
                consumers, slots = found.get(queue, (0, 0))
                found[queue] = consumers + 1, slots + (worker.slots or 0)
        return found

    def capabilities(self, workers: Workers) -> list[Capability]:
        """What remote control tells; a queue that nobody is known to read is at 0 only where nobody hides."""
        if self.reason is None:
            return []
        hidden = (
            self.strangers or self.unreadable or any(w.up and w.unanswered >= TRIES and not w.queues for w in workers)
        )
        by_queue = ("taskq_queue_slots", *(("taskq_queue_consumers",) if self.counts_consumers else ()))
        advice = {"option": _ASK, "permission": _ALLOW}.get(self.reason, "")
        of_queues: CapabilityReason = "option" if self.reason == "none" and hidden else self.reason
        return [
            *(Capability(family=family, reason=self.reason, advice=advice) for family in BY_WORKER),
            *(Capability(family=family, reason=of_queues, advice=advice or _ANSWER) for family in by_queue),
        ]

    @property
    def problems(self) -> list[Problem]:
        """Why the last round failed, where nobody meant it to."""
        if self.error is None:
            return []
        return [Problem(reason=self.error.reason, part="remote control", message=str(self.error))]

    def findings(self, workers: Workers) -> list[Finding]:
        """What a person should know."""
        found = []
        if self.reason == "permission":
            found.append(Finding(level="note", text="workers cannot be asked for slots and queues", advice=_ALLOW))
        if self.unreadable:
            text = f"{self.unreadable} answers of workers are not in JSON and were not read"
            found.append(Finding(level="note", text=text, advice="set task_serializer = 'json', or inspect: false"))
        if self.twice:
            text = f"several workers have one name, and are shown as one: {min(self.twice)[:128]}"
            found.append(Finding(level="problem", text=text, advice="start each with a name of its own: -n worker1@%h"))
        silent = sorted(w.name for w in workers if w.state is WorkerState.SILENT)
        if silent or self.strangers:
            example = f", e.g. {silent[0]}" if silent else ""
            text = f"{len(silent) + self.strangers} workers listen and do not answer{example}"
            advice = "look whether they hang or are stopped; PSUBSCRIBE * of somebody else also counts"
            found.append(Finding(level="problem", text=text, advice=advice))
        return found


def _learn(worker: Worker, stats: Any, queues: Any, now: float) -> None:
    """Take what a worker says of itself, as far as it has the form that Celery gives it."""
    if isinstance(queues, list):
        names = (queue.get("name") for queue in queues[:QUEUES] if isinstance(queue, dict))
        worker.queues = frozenset(name for name in names if is_queue(name))
    if not isinstance(stats, dict):
        return
    pool, pid, uptime = stats.get("pool"), stats.get("pid"), _count(stats.get("uptime"))
    if isinstance(pool, dict):
        module = str(pool.get("implementation") or "").partition(":")[0]  # celery.concurrency.prefork:TaskPool
        worker.pool = {"thread": "threads"}.get(name := module.rpartition(".")[2][:NAME_LENGTH], name)
        worker.slots = _count(pool.get("max-concurrency"))
    worker.prefetch = _count(stats.get("prefetch_count"))
    total = stats.get("total")
    if isinstance(total, dict) and (worker.beat is None or worker.processed is None):  # else heartbeats tell it sooner
        worker.processed = worker.counted = sum(_count(n) or 0 for n in total.values())
        worker.live = True
    if uptime is not None and (worker.started is None or worker.pid != pid):
        worker.started = now - uptime  # once: it is told in whole seconds
    if type(pid) is int:
        worker.pid = pid


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 53 else None


class Inspection:
    """Rounds of questions while a connection lasts."""

    def __init__(self, broker: Broker, follower: Follower, ledger: Ledger, source: Source) -> None:
        self._broker = broker
        self._follower = follower
        self._ledger = ledger
        self._options = source.options
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        follower.inspected.counts_consumers = not broker.tells_consumers

    async def start(self, patience: float) -> None:
        """Begin; waits for the first round, but not longer than so many seconds."""
        if self._options.inspect:
            self._task = asyncio.create_task(self._run())
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._first.wait()

    async def close(self) -> None:
        """End, and take back what the round that goes on has written."""
        # again and again: the wait_for of Python 3.11 can swallow a cancellation
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_AGAIN)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._round(COMMANDS if self._first.is_set() else (*COMMANDS, ACTIVE))
            self._first.set()
            refused = self._follower.inspected.reason == "permission"
            until = clock() + (REFUSED_EVERY if refused else self._options.inspect_interval)
            while (rest := until - clock()) > 0:
                await asyncio.sleep(min(LOOK_EVERY, rest))
                if not refused and self._follower.workers.unasked(TRIES):
                    break

    async def _round(self, commands: Sequence[str]) -> None:
        follower, now = self._follower, self._follower.now
        asked = now()
        nodes = [worker.name for worker in follower.workers if worker.up or worker.listens]
        try:
            answers = await self._broker.ask(commands, nodes, PATIENCE)
        except AdapterError as error:
            follower.inspected.failed(error, follower.workers)
            return
        except Exception as error:  # noqa: BLE001 - a bug must show on the page, and not end the following
            failed = AdapterError(Reason.BUG, f"{type(error).__name__} while asking workers")
            follower.inspected.failed(failed, follower.workers)
            return
        self._ledger.commands(answers.commands)
        follower.inspected.take(answers, follower.workers, asked, now())
        active.take(follower, answers.replies.get(ACTIVE, {}), now())
        follower.schedulers.answered([n for n in answers.replies.get("ping", ()) if n.startswith(BEAT)], now())
        for queue in follower.inspected.readers(follower.workers):
            follower.saw_queue(queue, now())
