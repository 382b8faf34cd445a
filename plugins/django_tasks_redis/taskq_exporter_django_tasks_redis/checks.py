"""What the operator is told: sources that are there, rights that are needed, things to put right."""

from __future__ import annotations

from collections.abc import Mapping

from taskq_exporter_redis import acl_line, connect, escape_glob, scan

from taskq_exporter.api import AdapterError, Detected, Finding, Reason, Source, State
from taskq_exporter_django_tasks_redis.collect import Client, observe
from taskq_exporter_django_tasks_redis.keys import Keys
from taskq_exporter_django_tasks_redis.options import DjangoTasksRedisOptions

#: Slices of 1,000 keys that detect() looks through.
DETECT_SLICES = 1_000
#: Consumers of dead workers on one queue that are worth a word.
MANY_LEFT_BEHIND = 20

_REBUILD = "`manage.py rebuild_redis_status_index`"

#: The commands of collect, follow, diagnose and detect, and no other; SELECT for databases beyond 0.
_COMMANDS = (
    "time", "exists", "scan", "zcount", "zrangebyscore", "hget", "hmget", "hstrlen", "xrange", "xpending",
    "xinfo|stream", "xinfo|groups", "xinfo|consumers", "info", "select", "hello",
)  # fmt: skip


def grants(source: Source) -> str:
    """The ACL line. SCAN shows the names of all keys, and no content."""
    options: DjangoTasksRedisOptions = source.options
    root = Keys(options.prefix, options.alias).root
    return acl_line((f"~{escape_glob(root)}*", "-@all", *(f"+{command}" for command in _COMMANDS)))


async def detect(env: Mapping[str, str]) -> list[Detected]:
    """A source for each backend with the default prefix that has stored tasks in the database of REDIS_URL.

    Raises:
        AdapterError: As connect() and collect().
    """
    url = env.get("REDIS_URL")
    if not url:
        return []
    options = DjangoTasksRedisOptions()
    source = Source(name="detect", adapter="django_tasks_redis", url=lambda: url, options=options)
    head, end = f"{options.prefix}:", ":results_index"
    aliases = set()
    async with connect(source) as redis:
        if await redis.command("EXISTS", Keys(options.prefix, options.alias).results):
            aliases.add(options.alias)
        try:
            async for key in scan(redis, f"{escape_glob(head)}*{end}", "set", slices=DETECT_SLICES):
                aliases.add(key.decode(errors="replace").removeprefix(head).removesuffix(end))
        except AdapterError as error:
            if error.reason is not Reason.COST:
                raise
    return [
        Detected(name=source.adapter + ("" if a == options.alias else f"/{a}"), url=url, options={"alias": a})
        for a in sorted(aliases)
    ]


async def diagnose(client: Client) -> list[Finding]:
    """What was found, beside the problems of a collect, and what to change to see more. Raises as collect()."""
    snapshot, consumers = await observe(client)
    found = [Finding(level="ok", text=f"{snapshot.server or 'server'} {snapshot.server_version} answers".strip())]
    able = {(c.family, c.state): c for c in snapshot.capabilities}
    if able["taskq_tasks", "succeeded"].reason == "version":
        found.append(_no_index(client, finishes=able["taskq_tasks_finished_total", ""].able))
    if able["taskq_tasks_enqueued_total", ""].reason == "version":
        found.append(Finding(level="note", text="this server does not count what it enqueued", advice="use Redis 7"))
    if not snapshot.queues:
        text = f"no queue below {client.keys.root}"
        found.append(Finding(level="note", text=text, advice="compare `prefix` and `alias` with the project's TASKS"))
    left = consumers.left_behind()
    for queue in snapshot.queues:
        ready = queue.tasks.get(State.READY, 0)
        if ready and queue.consumers == 0:
            text = f"{queue.name}: {ready} tasks are ready, and no worker reads the queue"
            advice = f"start run_redis_tasks --queue {queue.name}; without --queue it reads QUEUES of TASKS"
            found.append(Finding(level="problem", text=text, advice=advice))
        if left[queue.name] >= MANY_LEFT_BEHIND:
            text = f"{queue.name}: {left[queue.name]} consumers of workers that are gone"
            advice = "keep a run_redis_tasks worker running, which removes them; give process_tasks() a worker_id"
            found.append(Finding(level="note", text=text, advice=advice))
    return found


def _no_index(client: Client, *, finishes: bool) -> Finding:
    if finishes:
        text = "the status index does not cover what was stored before django-tasks-redis 0.4"
        return Finding(level="note", text=text, advice=f"run {_REBUILD} --backend {client.keys.alias} once")
    text = "django-tasks-redis before 0.4 keeps no index: finished tasks cannot be counted"
    return Finding(level="note", text=text, advice=f"upgrade to 0.4 and run {_REBUILD} once")
