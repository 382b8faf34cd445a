"""One snapshot: the clock and the index, then one pipeline over all queues, then one for what the first cannot know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from taskq_exporter_redis import Discovery, RedisClient, ServerInfo, Told
from taskq_exporter_redis import connect as connect_redis

from taskq_exporter.api import AdapterError, Problem, Reason, Snapshot, Source
from taskq_exporter_django_tasks_redis.capabilities import capabilities
from taskq_exporter_django_tasks_redis.discovery import QueueFinder
from taskq_exporter_django_tasks_redis.keys import STATUSES, Keys
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions
from taskq_exporter_django_tasks_redis.queues import (
    MANY_CONSUMERS,
    Command,
    View,
    consumer_rows,
    counts_added,
    crowded,
    longest_runs,
    more_questions,
    questions,
    queue_stats,
)
from taskq_exporter_django_tasks_redis.workers import Consumers

#: Queues that are asked about, expected ones first: each costs 17 commands a collect.
QUEUES = 1_000


class Client:
    """What connect() hands to collect(), follow() and diagnose(): the connection, and the search for queues."""

    def __init__(self, redis: RedisClient, source: Source, stack: AsyncExitStack) -> None:
        self.redis = redis
        self.options: DjangoTasksRedisOptions = source.options
        self.keys = Keys(self.options.prefix, self.options.alias)
        self.server_info = ServerInfo(source.disabled)
        self._source = source
        self._reported = 0
        self._stack = stack
        self._everywhere: Discovery | None = None
        self._newest: Discovery | None = None

    def commands(self) -> int:
        """Commands sent since this was last asked, those of the search for queues included."""
        before, self._reported = self._reported, self.redis.commands_sent
        return self._reported - before

    async def queue_names(self) -> tuple[list[str], list[tuple[AdapterError, str]]]:
        """The queues that the source wants, and why some may be missing, with the part that each reason concerns.

        The first call starts the search.
        """
        if self._everywhere is None or self._newest is None:
            every, soon = self.options.discovery_interval, self.options.poll_interval
            finder = QueueFinder(self.redis, self.keys, since=3 * soon)
            self._everywhere = Discovery(finder.in_all_keys, every=every)
            self._newest = Discovery(finder.in_newest_tasks, every=soon)
            await self._stack.enter_async_context(self._everywhere)
            await self._stack.enter_async_context(self._newest)
        # Half of the time that a collect has: where the first walk takes longer, the page shows what is known.
        found = await self._everywhere.names(self._source.timeout / 2) | await self._newest.names(0)
        wanted = self._source.queues
        expected = dict.fromkeys(wanted.expected)
        names = [*expected, *sorted(name for name in found if name not in expected and wanted.wants(name))]
        missing = [(self._everywhere.problem, "discovery")] if self._everywhere.problem else []
        if len(names) > QUEUES:
            advice = "name those to watch in `queues: {include: […]}`"
            missing.append((AdapterError(Reason.COST, f"more than {QUEUES} queues: {advice}"), "queues"))
        return names[:QUEUES], missing


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[Client]:
    """A client for one source. The first command connects."""
    async with connect_redis(source) as redis, AsyncExitStack() as stack:
        yield Client(redis, source, stack)


async def collect(client: Client) -> Snapshot:
    """What is true now.

    Raises:
        AdapterError: connect, auth, timeout, busy; permission where not even the clock and the index may be asked for.
    """
    return (await observe(client))[0]


async def observe(client: Client) -> tuple[Snapshot, Consumers]:
    """The snapshot, and the consumers behind its numbers of workers. Raises AdapterError as collect does."""
    redis = client.redis
    view, finishes, server = await _look(client)
    names, missing = await client.queue_names()
    problems = {(problem.reason, problem.part): problem for problem in server.problems}
    for error, part in missing:
        _note(problems, error, part)
    answers: dict[str, dict[str, Any]] = {name: {} for name in names}
    await _ask(redis, {name: questions(view, name) for name in names}, answers, problems)
    await _ask(redis, {name: more_questions(view, name, answers[name]) for name in names}, answers, problems)

    if any(crowded(view, of_queue) for of_queue in answers.values()):
        advice = "keep a run_redis_tasks worker running, which removes those of workers that are gone"
        error = AdapterError(Reason.COST, f"a stream has more than {MANY_CONSUMERS} consumers: {advice}")
        _note(problems, error, "consumers")
    consumers = Consumers(alive_within=view.options.alive_within, claim_timeout=view.options.claim_timeout)
    for name, of_queue in answers.items():
        consumers.add(name, consumer_rows(of_queue))
    reading = None if any(part in ("groups", "consumers") for _, part in problems) else consumers.reading()
    queues = [queue_stats(view, n, a, None if reading is None else reading[n]) for n, a in answers.items()]
    snapshot = Snapshot(
        server=redis.server,
        server_version=redis.server_version,
        queues=queues,
        queues_complete=not missing,
        longest_runs=[run for name, of_queue in answers.items() for run in longest_runs(view, name, of_queue)],
        worker_states={} if reading is None else consumers.states(),
        broker=server.stats,
        capabilities=[
            *capabilities(
                indexed=view.indexed,
                finishes=finishes,
                counts_added=counts_added(answers.values()),
                problems=problems.values(),
            ),
            *server.capabilities,
        ],
        problems=list(problems.values()),
        commands=client.commands(),
    )
    return snapshot, consumers


async def _look(client: Client) -> tuple[View, bool, Told]:
    """The clock and the index's state, whether finished tasks are indexed, and what the server tells of itself."""
    keys = client.keys
    replies = await client.redis.pipeline(
        [
            ("TIME",),
            ("EXISTS", keys.index_built),
            ("EXISTS", keys.results),
            ("EXISTS", *(keys.status(status) for status in STATUSES)),
            *client.server_info.commands,
        ]
    )
    server = client.server_info.told(replies[4:], client.redis.roundtrip_seconds)
    del replies[4:]
    for reply in replies:
        if isinstance(reply, AdapterError):
            raise reply
    (seconds, microseconds), built, stored, sets = replies
    now = int(seconds) + int(microseconds) / 1e6
    # A backend that has stored nothing yet is at 0, whichever version it will be. Sets without the mark: 0.4 runs, and
    # what 0.3 stored is not in them.
    indexed = bool(built or not stored)
    return View(keys=keys, options=client.options, now=now, indexed=indexed), bool(indexed or sets), server


async def _ask(
    redis: RedisClient,
    ask: Mapping[str, Mapping[str, Command]],
    answers: Mapping[str, dict[str, Any]],
    problems: dict[tuple[Reason, str], Problem],
) -> None:
    """Put the replies to one round of questions about all queues into `answers`; a refused one is a problem."""
    replies = iter(await redis.pipeline([command for of_queue in ask.values() for command in of_queue.values()]))
    for queue, of_queue in ask.items():
        for name in of_queue:
            reply = next(replies)
            if isinstance(reply, AdapterError):
                _note(problems, reply, name.split(" ")[0])
            else:
                answers[queue][name] = reply


def _note(problems: dict[tuple[Reason, str], Problem], error: AdapterError, part: str) -> None:
    problems.setdefault((error.reason, part), Problem(reason=error.reason, part=part, message=str(error)))
