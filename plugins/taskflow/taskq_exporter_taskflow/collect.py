"""What is true now, by both servers at once; where one does not answer, what the other one says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from taskq_exporter.api import (
    AdapterError,
    Finding,
    Problem,
    QueueStats,
    Sample,
    Snapshot,
    Source,
    State,
    WorkerStats,
)
from taskq_exporter_taskflow.capabilities import CAPABILITIES
from taskq_exporter_taskflow.client import SHARE, Client
from taskq_exporter_taskflow.database import Queue, Rows, read_rows, worker_of
from taskq_exporter_taskflow.lists import Deeds, Lists, read_deeds, read_lists
from taskq_exporter_taskflow.names import CAMPAIGNS, DEAD_LETTERS, QUEUES, SCHEDULED_ENTRIES, WAITING_ROWS
from taskq_exporter_taskflow.options import TaskflowOptions
from taskq_exporter_taskflow.servers import samples_of, servers
from taskq_exporter_taskflow.statements import index_advice

__all__ = ["collect"]

_T = TypeVar("_T")
#: The states that the rows of one statement tell.
_OF_ROWS = {"waiting": (State.SCHEDULED, State.RETRY, State.BLOCKED), "running": (State.RUNNING,)}
#: The part of the timeout after which nothing more is asked.
_LAST = 0.9


async def collect(source: Source, client: Client) -> Snapshot:
    """Queues, workers, schedules and campaigns. Raises AdapterError where neither server can be read."""
    options: TaskflowOptions = source.options
    clock = asyncio.get_running_loop().time
    ends = clock() + _LAST * source.timeout
    sent = 0

    async def rows() -> Rows:
        nonlocal sent
        database = client.database()
        before = database.commands_sent
        try:
            return await read_rows(source, database)
        finally:
            sent += database.commands_sent - before

    async def lists() -> Lists:
        nonlocal sent
        redis = client.redis()
        before = redis.commands_sent
        try:
            return await read_lists(redis, SHARE * source.timeout, client.server_info)
        finally:
            sent += redis.commands_sent - before

    async with asyncio.TaskGroup() as both:
        asked, told = both.create_task(_half(rows)), both.create_task(_half(lists))
    of_database, of_redis = asked.result(), told.result()
    problems = []
    if isinstance(of_database, AdapterError):
        client.database_failed(of_database)
        problems.append(Problem(reason=of_database.reason, part="database", message=str(of_database)))
    if isinstance(of_redis, AdapterError):
        await client.redis_failed(of_redis)
        problems.append(Problem(reason=of_redis.reason, part="redis", message=str(of_redis)))
    if isinstance(of_database, AdapterError) and isinstance(of_redis, AdapterError):
        raise AdapterError(of_database.reason, f"database: {of_database}; Redis: {of_redis}")
    told_rows = None if isinstance(of_database, AdapterError) else of_database
    told_lists = None if isinstance(of_redis, AdapterError) else of_redis
    deeds: dict[str, Deeds] = {}
    if told_lists is not None:
        names = {*told_lists.registry, *(told_rows.workers if told_rows else ())}
        redis = client.redis()
        before = redis.commands_sent
        try:
            deeds = await read_deeds(redis, names, options.zone, max(ends - clock(), 0.0))
        except AdapterError as error:
            problems.append(Problem(reason=error.reason, part="what workers did", message=str(error)))
        sent += redis.commands_sent - before
        problems += told_lists.problems
    problems += told_rows.problems if told_rows else []
    scheduler = told_rows.scheduler(options.scheduler_late_after) if told_rows else None
    broker, of_broker = servers(told_rows.server if told_rows else None, told_lists.server if told_lists else None)
    return Snapshot(
        server="postgresql" if told_rows else "",
        server_version=told_rows.version if told_rows else "",
        queues=[_queue(name, told_rows, told_lists) for name in QUEUES],
        longest_runs=told_rows.longest_runs if told_rows else (),
        workers=_workers(source, told_rows, told_lists, deeds),
        schedulers=[scheduler] if scheduler else [],
        broker=broker,
        capabilities=[*CAPABILITIES, *of_broker],
        problems=problems,
        commands=sent,
        query_seconds=told_rows.seconds if told_rows else {},
        samples=_samples(told_rows, told_lists),
        findings=_findings(options, told_rows),
    )


async def _half(ask: Callable[[], Awaitable[_T]]) -> _T | AdapterError:
    try:
        return await ask()
    except AdapterError as error:
        return error


def _queue(name: str, rows: Rows | None, lists: Lists | None) -> QueueStats:
    """One list, and the rows of its priorities.

    `ready` is what stands in the list, and what is due and was not moved there: without the database the list alone.
    """
    queue, answered = (rows.queues[name], rows.answered) if rows else (Queue(), set[str]())
    tasks = {s: queue.tasks[s] for statement, states in _OF_ROWS.items() if statement in answered for s in states}
    ages: dict[State, float | None] = {}
    length = lists.lengths.get(name) if lists else None
    if length is not None:
        tasks[State.READY] = length + queue.tasks[State.READY]
        if "waiting" in answered:
            # rows whose entry is lost wait for nobody
            known = [age for age in (queue.overdue_age, queue.listed_age if length else None) if age is not None]
            ages[State.READY] = max(known, default=None if length else 0.0)
    if "running" in answered:
        ages[State.RUNNING] = queue.running_age if queue.tasks[State.RUNNING] else 0.0
    return QueueStats(
        name=name,
        tasks=tasks,
        oldest_age={state: age for state, age in ages.items() if age is not None},
        capped={state: True for state in tasks if rows and state in rows.capped},
        overdue=queue.tasks[State.READY] if "waiting" in answered else None,
    )


def _workers(source: Source, rows: Rows | None, lists: Lists | None, deeds: dict[str, Deeds]) -> list[WorkerStats]:
    """Workers of the table with what Redis keeps of them, and those that only Redis knows."""
    options: TaskflowOptions = source.options
    workers = dict(rows.workers) if rows else {}
    for name, kept in deeds.items():
        if name not in workers:
            if kept.heartbeat is None or lists is None or lists.now is None:
                continue  # an entry that nobody keeps up
            silent = lists.now - kept.heartbeat
            if silent > max(source.worker_ttl, options.offline_after):
                continue
            fresh = silent < options.offline_after
            workers[name] = worker_of(
                name, kept.status, capacity=kept.capacity, load=kept.load, heartbeat=kept.heartbeat, fresh=fresh
            )
        workers[name] = replace(
            workers[name],
            started=kept.started,
            finished=kept.finished,
            busy_seconds=kept.busy_seconds,
            restarts=kept.restarts,
        )
    return [workers[name] for name in sorted(workers)]


def _samples(rows: Rows | None, lists: Lists | None) -> list[Sample]:
    samples = []
    if rows is not None:
        if "waiting" in rows.answered:
            samples += [Sample(WAITING_ROWS, (name,), queue.listed) for name, queue in rows.queues.items()]
        samples += [Sample(CAMPAIGNS, (status.lower(),), n) for status, n in rows.campaigns.items()]
    if lists is not None:
        if (entries := lists.lengths.get("tasks:scheduled")) is not None:
            samples.append(Sample(SCHEDULED_ENTRIES, (), entries))
        piles = ("tasks:dlq", "dead_letter_queue")
        samples += [Sample(DEAD_LETTERS, (pile,), lists.lengths[pile]) for pile in piles if pile in lists.lengths]
        samples += samples_of(lists.server) if lists.server else []
    return samples


def _findings(options: TaskflowOptions, rows: Rows | None) -> list[Finding]:
    if rows is None or rows.by_update:
        return []
    hours = options.lookback / 3600
    text = f"tasks that end more than {hours:g} h after they were created are not counted as finished"
    return [Finding(level="note", text=text, advice=f"run: {index_advice(options, 'ended')}")]
