"""The half of a collect that Redis tells: what stands in the lists, the dead letters, and what workers have done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from taskq_exporter_redis import RedisClient, ServerInfo
from taskq_exporter_redis import Told as ServerTold

from taskq_exporter.api import AdapterError, Outcome, Problem, Reason
from taskq_exporter_taskflow.names import QUEUES

__all__ = ["COMMANDS", "KEYS", "MAX_WORKERS", "Deeds", "Lists", "read_deeds", "read_lists"]

#: Workers of which details are read.
MAX_WORKERS = 1000
REGISTRY = "workers:registry"
#: What is counted, by the name that `Lists.lengths` has it under.
_LENGTHS = {
    **{name: ("LLEN", f"queue:{name}") for name in QUEUES},
    "tasks:scheduled": ("ZCARD", "tasks:scheduled"),
    "tasks:dlq": ("ZCARD", "tasks:dlq"),
    "dead_letter_queue": ("LLEN", "dead_letter_queue"),
}
#: The keys and commands of both reads, for the ACL. HMGET reads fields of hashes and nothing of other keys.
KEYS = (*(key for _, key in _LENGTHS.values()), REGISTRY)
COMMANDS = ("llen", "zcard", "srandmember", "time", "info", "select", "hello")
_WORKER = ("status", "capacity", "current_load", "last_heartbeat")
_METRICS = ("total_tasks", "total_errors", "total_duration", "restart_count", "start_time", "last_heartbeat")


@dataclass(slots=True)
class Lists:
    """What Redis told; what is left out is not known."""

    lengths: dict[str, int] = field(default_factory=dict)
    registry: list[str] = field(default_factory=list)
    now: float | None = None  # Redis's clock
    server: ServerTold | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deeds:
    """What Redis keeps of one worker. Times are Unix seconds."""

    status: str = ""
    capacity: int | None = None
    load: int | None = None
    heartbeat: float | None = None
    started: float | None = None
    finished: dict[Outcome, int] = field(default_factory=dict)
    busy_seconds: float | None = None
    restarts: int | None = None


async def read_lists(redis: RedisClient, seconds: float, info: ServerInfo) -> Lists:
    """Lengths, and the names of workers, in one round trip of at most `seconds`. Raises AdapterError."""
    commands = [*_LENGTHS.values(), ("TIME",), ("SRANDMEMBER", REGISTRY, MAX_WORKERS + 1), *info.commands]
    replies = await _asked(redis, commands, seconds)
    asked = len(replies) - len(info.commands)
    *lengths, clock, registry = replies[:asked]
    server = info.told(replies[asked:], redis.roundtrip_seconds)
    lists = Lists(server=server, problems=[*server.problems])
    for name, length in zip(_LENGTHS, lengths, strict=True):
        if isinstance(length, AdapterError):
            lists.problems.append(Problem(reason=length.reason, part=_LENGTHS[name][1], message=str(length)))
        else:
            lists.lengths[name] = length
    if not lists.lengths:
        raise next(length for length in lengths if isinstance(length, AdapterError))
    if not isinstance(clock, AdapterError):
        lists.now = int(clock[0]) + int(clock[1]) / 1e6
    if isinstance(registry, AdapterError):
        lists.problems.append(Problem(reason=registry.reason, part=REGISTRY, message=str(registry)))
    else:
        lists.registry = [name.decode(errors="replace") for name in registry[:MAX_WORKERS]]
        if len(registry) > MAX_WORKERS:
            text = f"more than {MAX_WORKERS} workers in {REGISTRY}: unregister those that are gone"
            lists.problems.append(Problem(reason=Reason.COST, part=REGISTRY, message=text))
    return lists


async def read_deeds(redis: RedisClient, workers: Iterable[str], zone: ZoneInfo, seconds: float) -> dict[str, Deeds]:
    """What is kept of these workers, in one round trip; those of which there is nothing are left out.

    Raises AdapterError; permission, where the fields may not be read.
    """
    names = sorted(workers)[:MAX_WORKERS]
    commands = [
        command
        for name in names
        for command in (("HMGET", f"worker:{name}", *_WORKER), ("HMGET", f"worker:metrics:{name}", *_METRICS))
    ]
    replies = await _asked(redis, commands, seconds)
    for reply in replies:
        if isinstance(reply, AdapterError):
            raise reply
    found = {}
    for name, worker, metrics in zip(names, replies[::2], replies[1::2], strict=True):
        if any(value is not None for value in (*worker, *metrics)):
            found[name] = _deeds(worker, metrics, zone)
    return found


async def _asked(
    redis: RedisClient, commands: Sequence[Sequence[str | bytes | int | float]], seconds: float
) -> list[Any]:
    try:
        async with asyncio.timeout(seconds):
            return await redis.pipeline(commands)
    except TimeoutError:
        raise AdapterError(Reason.TIMEOUT, f"Redis did not answer within {seconds:.1f} s") from None


def _deeds(worker: Sequence[bytes | None], metrics: Sequence[bytes | None], zone: ZoneInfo) -> Deeds:
    status, capacity, load, beat = worker
    total, errors, duration, starts, started, own_beat = metrics
    beats = [at for at in (_time(beat, zone), _time(own_beat, zone)) if at is not None]
    kept = any(value is not None for value in metrics)  # HINCRBY makes a field when it first counts
    tasks, failed = (_number(value or b"0") if kept else None for value in (total, errors))
    begun = _number(starts)
    return Deeds(
        status=(status or b"").decode(errors="replace").upper(),
        capacity=_whole(_number(capacity)),
        load=_whole(_number(load)),
        heartbeat=max(beats, default=None),
        started=_time(started, zone),
        finished={}
        if tasks is None or failed is None
        else {Outcome.SUCCEEDED: max(int(tasks - failed), 0), Outcome.FAILED: max(int(failed), 0)},
        busy_seconds=_number(duration or b"0") if kept else None,
        restarts=max(int(begun) - 1, 0) if begun is not None else None,  # it counts each start
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _number(value: bytes | None) -> float | None:
    """A number of at least 0; None where it is none."""
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None


def _time(value: bytes | None, zone: ZoneInfo) -> float | None:
    """A time in Unix seconds or ISO 8601, where it has no zone in that of the database; None where it is none."""
    if value is None:
        return None
    number = _number(value)
    if number is not None:
        return number
    try:
        at = datetime.fromisoformat(value.decode(errors="replace"))
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
