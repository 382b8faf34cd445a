"""The schedule of redbeat, which it keeps in Redis. Verified with celery-redbeat 2.4.2 on Celery 5.7.0.

Keys, with the default prefix: `redbeat::schedule` is a sorted set of the entries' keys by when they are next due;
`redbeat:<entry>` a hash with `definition` and `meta` in JSON; `redbeat::lock` is held by the one that sends.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_core import from_json
from taskq_exporter_redis import Discovery, RedisClient, escape_glob

from taskq_exporter.api import (
    Capability,
    Finding,
    Problem,
    Reason,
    Sample,
    ScheduleEntry,
    SchedulerStats,
    Snapshot,
)
from taskq_exporter_celery.families import REDBEAT_LOCK
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.schedulers import REDBEAT, Schedulers

#: Seconds between looks at the schedule.
READ_EVERY = 10.0
#: Seconds by which an entry of a living scheduler may be overdue.
OVERDUE = 120.0
#: Most entries to read: those that are due first. Entries that are never due again are counted only.
LIMIT = 5_000
#: Hashes to read at once.
_SLICE = 500
#: A larger definition, which holds the task's arguments, is not read.
_MAX_DEFINITION = 64 * 1024


_CAPABILITIES = (
    "taskq_scheduler_up",
    "taskq_scheduler_entries",
    "taskq_schedule_last_run_timestamp_seconds",
    "taskq_schedule_next_run_timestamp_seconds",
)


class Redbeat:
    """The schedule as refresh() last read it, off the scrape path."""

    def __init__(self, redis: RedisClient, options: CeleryOptions) -> None:
        self._redis = redis
        self._wanted = options.redbeat
        self._prefix = options.redbeat_key_prefix
        self._entries: dict[bytes, tuple[float, float | None]] = {}  # due, last run; in the order of first sight
        self._disabled: dict[bytes, float] = {}  # entries that are overdue on purpose, and when they were due
        self._total = 0
        self._late: tuple[str, float] | None = None  # the entry that is most overdue, and seconds
        self._locked: bool | None = None  # None before anybody was seen to hold the lock: its name may be another
        #: To be entered where redbeat's keys may be read.
        self.reads = Discovery(self.refresh, READ_EVERY)

    async def told(self, patience: float, schedulers: Schedulers | None) -> Snapshot:
        """What the page says of it; nothing where there are no keys. The follower's schedulers hear of it too.

        Args:
            patience: Seconds to wait for the first look.
            schedulers: The follower's, while it follows.
        """
        if self._wanted is False:
            return Snapshot()
        await self.reads.names(patience)
        if error := self.reads.problem:
            unasked = self._wanted == "auto" and error.reason is Reason.PERMISSION
            return Snapshot(
                capabilities=self._capabilities(able=error.reason is not Reason.PERMISSION),
                problems=[] if unasked else [Problem(reason=error.reason, part="redbeat", message=str(error))],
            )
        present = self._total > 0 or bool(self._locked)
        runs = [run for _, run in self._entries.values() if run is not None]
        last_run = max(runs, default=None)
        if schedulers is not None:
            schedulers.redbeat(present, last_run)
        if not present and self._wanted == "auto":
            return Snapshot()
        stats = SchedulerStats(
            name=REDBEAT,
            up=None if not present else self._late is None,
            last_beat=last_run,
            entry_count=self._total,
            entries=[
                ScheduleEntry(name=self._name(key), last_run=run, next_run=due)
                for key, (due, run) in self._entries.items()
            ],
        )
        return Snapshot(
            schedulers=[stats],
            capabilities=self._capabilities(able=True),
            samples=[] if self._locked is None else [Sample(REDBEAT_LOCK, (), int(self._locked))],
            findings=self.findings,
        )

    @staticmethod
    def _capabilities(*, able: bool) -> list[Capability]:
        return [Capability(family=family, reason="none" if able else "permission") for family in _CAPABILITIES]

    @property
    def findings(self) -> list[Finding]:
        """What a person should do."""
        if self._late:
            text = f"redbeat's entry {self._late[0]} is overdue by {self._late[1]:.0f} s: is beat running?"
            return [Finding(level="problem", text=text, advice=_START)]
        if self._total and self._locked is False:
            text = "nobody holds redbeat's lock any more: what becomes due will not be sent"
            return [Finding(level="note", text=text, advice=_START)]
        return []

    async def refresh(self) -> tuple[()]:
        """Look again.

        Raises:
            AdapterError: permission, where a key cannot be read; those of a connection.
        """
        schedule, lock = f"{self._prefix}:schedule", f"{self._prefix}:lock"
        clock, total, scored, locks = await self._redis.replies(
            [
                ("TIME",),
                ("ZCARD", schedule),
                ("ZRANGEBYSCORE", schedule, "0", "+inf", "WITHSCORES", "LIMIT", 0, LIMIT),
                ("EXISTS", lock),
            ]
        )
        now = int(clock[0]) + int(clock[1]) / 1e6
        due = dict(zip(scored[::2], map(float, scored[1::2]), strict=True))
        entries = {key: known for key, known in self._entries.items() if known[0] == due.get(key)}
        new = [key for key in due if key not in entries]
        for i in range(0, len(new), _SLICE):
            keys = new[i : i + _SLICE]
            metas = await self._redis.replies([("HGET", key, "meta") for key in keys])
            entries |= {key: (due[key], _last_run(meta)) for key, meta in zip(keys, metas, strict=True)}
        kept = dict.fromkeys((*(key for key in self._entries if key in entries), *entries))
        self._late = await self._find_late(due, now)
        self._entries, self._total = {key: entries[key] for key in kept}, total
        self._locked = True if locks else None if self._locked is None else False
        return ()

    async def _find_late(self, due: dict[bytes, float], now: float) -> tuple[str, float] | None:
        """The first that is overdue; redbeat leaves those that are disabled in the schedule."""
        self._disabled = {key: at for key, at in self._disabled.items() if due.get(key) == at}
        late = [key for key, at in due.items() if at < now - OVERDUE and key not in self._disabled]
        for i in range(0, len(late), _SLICE):
            keys = late[i : i + _SLICE]
            sizes = await self._redis.replies([("HSTRLEN", key, "definition") for key in keys])
            small = [key for key, size in zip(keys, sizes, strict=True) if 0 < size <= _MAX_DEFINITION]
            told = await self._redis.replies([("HGET", key, "definition") for key in small])
            self._disabled |= {key: due[key] for key, text in zip(small, told, strict=True) if not _is_enabled(text)}
            for key in keys:
                if key not in self._disabled:
                    return self._name(key), now - due[key]
        return None

    def _name(self, key: bytes) -> str:
        return key.decode(errors="replace").removeprefix(self._prefix)


def rights(options: CeleryOptions) -> list[str]:
    """The words of an ACL selector for what refresh() sends."""
    commands = ("+time", "+zcard", "+zrangebyscore", "+exists", "+hget", "+hstrlen")
    return [f"~{escape_glob(options.redbeat_key_prefix)}*", "-@all", *commands]


def _is_enabled(definition: bytes | None) -> bool:
    try:
        return definition is None or from_json(definition).get("enabled") is not False
    except (ValueError, AttributeError):
        return True


def _last_run(meta: bytes | None) -> float | None:
    """Unix seconds; None where it never ran: then redbeat writes when the entry was made, and no count of runs."""
    try:
        doc = from_json(meta or b"")
        if not doc.get("total_run_count"):
            return None
        at = doc["last_run_at"]
        zone = at.get("timezone", "UTC")  # seconds, or a name
        if isinstance(zone, int | float):
            tz: Any = timezone(timedelta(seconds=zone))
        else:
            tz = UTC if zone == "UTC" else ZoneInfo(zone)
        parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        return datetime(**{part: at[part] for part in parts}, tzinfo=tz).timestamp()
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        return None


_START = "start beat with redbeat.RedBeatScheduler, or disable redbeat here with `redbeat: false` where it is not used"
