"""What sends periodic tasks, and whether it lives. Pure: the time is given, in Unix seconds of our own clock.

Celery beat sends no events of its own. It is heard of by its answers to `ping` (from 5.7 on, with
`beat_enable_remote_control`), and by the tasks that it sends: those named in the configuration, and those of a producer
that marked a message with the header `celery_beat_task` (from 5.7 on). A message of a retry keeps this header and its
producer's name, one of `replace()`, a link or a chain neither. Verified with Celery 5.7.0; the tasks also with 5.4.0.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from taskq_exporter.api import Finding, NameFilter, SchedulerStats
from taskq_exporter_celery.options import CeleryOptions

#: Labels: stable, whatever host a scheduler runs on.
BEAT, REDBEAT = "beat", "redbeat"
#: Begins the names of beat's nodes.
NODE = "celerybeat@"
#: Rounds of remote control in a row after which one that used to answer is down.
MISSES = 2
#: Producers, and task names, to remember: hostile ones must not fill the memory.
LIMIT = 1_000
#: Seconds after which a checkpoint is told anew how long it has been silent.
KEEP_EVERY = 60.0


class _Scheduler:
    """One scheduler by its label."""

    __slots__ = ("answered", "answers", "has_keys", "heard", "last_beat", "max_silence", "misses", "name", "silent")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.max_silence: float | None = None
        self.last_beat: float | None = None
        self.heard = now  # the last beat, or since when we listen; times in which we did not are left out
        self.silent = False  # for longer than max_silence
        self.answers = False  # it is expected to answer pings
        self.answered: float | None = None  # when it last did, since our start
        self.misses = 0  # rounds in a row that it did not answer
        self.has_keys = False  # redbeat's were seen


class Schedulers:
    """The schedulers of one source: those configured, and those that were heard of."""

    def __init__(self, options: CeleryOptions, *, ttl: float, now: float) -> None:
        """`ttl`: seconds of silence after which one that is not configured is forgotten."""
        self._ttl = ttl
        self._now = now  # up to when we listened
        self._kept = -KEEP_EVERY
        self._missed = 0.0  # when nobody answered, as far as that was counted
        self._interval = options.inspect_interval
        self._changed = False
        self._schedulers: dict[str, _Scheduler] = {}
        self._tasks: dict[str, NameFilter] = {}
        for configured in options.schedulers:
            self._get(configured.name).max_silence = configured.max_silence
            self._tasks[configured.name] = NameFilter(include=configured.tasks)
        self._by_task: dict[str, list[_Scheduler]] = {}
        #: Producers of tasks, and when each last sent one; and those of them that are a beat.
        self._sent: dict[str, float] = {}
        self._origins: dict[str, float] = {}
        #: Whether redbeat's keys are there; None where that is not known.
        self._redbeat: bool | None = None

    # --- what is heard

    def sent(self, task: str, origin: str, now: float) -> None:
        """A producer sent a task; `origin` is the hostname of its events, `gen<pid>@<host>`."""
        if origin not in self._sent and len(self._sent) >= LIMIT:
            del self._sent[next(iter(self._sent))]
        self._sent[origin] = now
        if origin in self._origins:
            self._origins[origin] = now
            self._beat(self._default(), now)
        if self._tasks:
            for scheduler in self._senders(task):
                self._beat(scheduler, now)

    def learned(self, origin: str) -> None:
        """A message with the header `celery_beat_task` is of this producer (its header `origin`)."""
        if origin in self._origins:
            self._origins[origin] = self._now
        elif len(self._origins) < LIMIT:
            self._origins[origin] = self._now
            scheduler = self._default()
            if origin in self._sent:
                self._beat(scheduler, self._sent[origin])

    def answered(self, nodes: Collection[str], now: float) -> None:
        """A round of `ping` ended, and these nodes answered, workers among them; call it also where none did.

        A beat whose scheduler hangs does not answer either (`beat_remote_control_max_tick_age`).
        """
        if any(node.startswith(NODE) for node in nodes):
            scheduler = self._default()
            self._beat(scheduler, now)
            scheduler.answers, scheduler.answered = True, now
            scheduler.misses = 0
        elif now - self._missed >= self._interval / 2:  # rounds follow each other closely where workers come
            self._missed = now
            for scheduler in self._schedulers.values():
                scheduler.misses += scheduler.answers
                self._changed |= scheduler.misses == MISSES

    def redbeat(self, present: bool, last_run: float | None) -> None:
        """Redbeat's keys were read: whether there are any, and when an entry last ran."""
        self._redbeat = present
        if not present:
            return
        beat = None if BEAT in self._tasks or self._default_name() != REDBEAT else self._schedulers.pop(BEAT, None)
        scheduler = self._get(REDBEAT)
        if beat is not None:  # it was heard of before its keys were read
            scheduler.answers, scheduler.answered = beat.answers, beat.answered
            scheduler.last_beat = max(beat.last_beat or 0.0, scheduler.last_beat or 0.0) or None
        self._changed |= not scheduler.has_keys
        scheduler.has_keys, scheduler.heard = True, self._now
        if last_run is not None and last_run > (scheduler.last_beat or 0.0):
            scheduler.last_beat, self._changed = last_run, True

    # --- time

    def resume(self, now: float) -> None:
        """A subscription starts: nobody was silent while we were deaf."""
        deaf = max(now - self._now, 0.0)
        for scheduler in self._schedulers.values():
            scheduler.heard = min(scheduler.heard + deaf, now)
        self._now = now
        self._note_silence()

    def sweep(self, now: float) -> dict[str, Any] | None:
        """Forget what was silent for long. Returns what a checkpoint should hold, where that has changed."""
        self._now = now
        self._note_silence()
        if not self._changed and now - self._kept < KEEP_EVERY:
            return None
        self._changed, self._kept = False, now
        for s in list(self._schedulers.values()):
            if s.name not in self._tasks and now - s.heard > self._ttl:
                del self._schedulers[s.name]
        self._origins = {origin: at for origin, at in self._origins.items() if now - at <= self._ttl}
        known = {s.name: [s.last_beat, s.heard, s.answers, s.misses, s.has_keys] for s in self._schedulers.values()}
        return {"listened": now, "known": known, "origins": self._origins}

    def restore(self, state: Any) -> None:
        """Continue from what sweep() returned, perhaps long ago; nothing else changes anything."""
        try:
            for name, (last_beat, heard, answers, misses, has_keys) in state["known"].items():
                s = self._get(name)
                s.last_beat, s.heard, s.answers, s.misses, s.has_keys = last_beat, heard, answers, misses, has_keys
            self._origins, self._now = dict(state["origins"]), state["listened"]
        except (TypeError, ValueError, KeyError, AttributeError):
            return

    # --- what is seen now

    def stats(self) -> list[SchedulerStats]:
        """What the page says. The last beat of one that is configured and was never heard of is 0."""
        return [
            SchedulerStats(
                name=s.name,
                up=self._up(s),
                last_beat=0.0 if s.last_beat is None and s.name in self._tasks else s.last_beat,
            )
            for s in self._schedulers.values()
        ]

    def findings(self) -> list[Finding]:
        """What a person should do."""
        found = []
        for s in self._schedulers.values():
            up = self._up(s)
            if up is False:
                what = "its keys are gone" if s.has_keys else "it answers no ping" if s.answers else "it is silent"
                text = f"{s.name} is down: {what}, for {self._now - s.heard:.0f} s by now"
                found.append(Finding(level="problem", text=text, advice="is it running, and connected to this broker?"))
            elif up is None and not s.has_keys:
                text = f"whether {s.name} is alive cannot be told" if s.last_beat else f"{s.name} was not heard of yet"
                found.append(Finding(level="note", text=text, advice=BE_HEARD))
        return found

    def _up(self, s: _Scheduler) -> bool | None:
        if s.has_keys and self._redbeat is not False:
            return None  # due times tell, where they can be read
        if s.has_keys or s.silent or s.misses >= MISSES:
            return False
        lately = s.answered is not None and self._now - s.answered <= 2 * MISSES * self._interval
        if lately or (s.max_silence is not None and s.last_beat is not None):
            return True
        return None

    def _note_silence(self) -> None:
        for s in self._schedulers.values():
            silent = s.max_silence is not None and self._now - s.heard > s.max_silence
            self._changed |= silent is not s.silent
            s.silent = silent

    def _beat(self, scheduler: _Scheduler, at: float) -> None:
        scheduler.last_beat = max(at, scheduler.last_beat or 0.0)
        scheduler.heard = max(at, scheduler.heard)
        self._changed = True
        if scheduler.misses >= MISSES:  # it lives, and answers no more
            scheduler.answers, scheduler.answered, scheduler.misses = False, None, 0

    def _default_name(self) -> str:
        """Whose the pings and the learned producers are: the only one configured, else redbeat where its keys are."""
        if len(self._tasks) == 1:
            return next(iter(self._tasks))
        return REDBEAT if self._redbeat and BEAT not in self._tasks else BEAT

    def _default(self) -> _Scheduler:
        return self._get(self._default_name())

    def _senders(self, task: str) -> list[_Scheduler]:
        """The configured schedulers that send a task."""
        senders = self._by_task.get(task)
        if senders is None:
            if len(self._by_task) >= LIMIT:
                self._by_task.clear()
            senders = [self._get(name) for name, tasks in self._tasks.items() if tasks.wants(task)]
            self._by_task[task] = senders
        return senders

    def _get(self, name: str) -> _Scheduler:
        if name not in self._schedulers:
            self._schedulers[name] = _Scheduler(name, self._now)
        return self._schedulers[name]


BE_HEARD = (
    "set beat_enable_remote_control = True (Celery 5.7), or name its tasks and its max_silence under `schedulers` and "
    "set task_send_sent_event = True"
)
