"""The demo: real queues, real workers, the exporter, and a live table of what it sees."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from types import FrameType

from taskq_exporter.view.table import table
from taskq_exporter.web.api import sources_from
from taskq_exporter_demo import jobs, pages
from taskq_exporter_demo.children import Children, DemoError
from taskq_exporter_demo.servers import HOST, free_port, start_postgres, start_redis

ADDRESS = ":9540"
ONCE_SECONDS = 120.0  # for the first tasks of every kind to run
START_SECONDS = 30.0  # for the exporter to follow every source
REDRAW_SECONDS = 1.0
APPEND_SECONDS = 5.0
CELERY_QUEUES = "orders,emails,images,reports"

CELERY = """\
  - name: shop
    adapter: celery
    url: ${CELERY_BROKER_URL}
    objectives: [{queue: emails, start_within: 10s, ratio: 0.9}]
"""
DJANGO = """\
  - name: web
    adapter: django_tasks_redis
    url: ${TASKQ_DEMO_DJANGO_URL}
    poll_interval: 2s
    result_ttl: 1h
"""
POSTGRES = """\
  - name: billing
    adapter: postgres
    url: ${TASKQ_DEMO_DATABASE_URL}
    poll_interval: 2s
    table:
      name: public.jobs
      columns: {id: id, queue: queue, task: kind, state: state, priority: priority, scheduled_at: run_at,
                started_at: started_at, finished_at: finished_at, created_at: created_at, worker: locked_by}
      states: {ready: [queued], running: [active], succeeded: [done], failed: [error]}
    workers: {name: public.workers, columns: {id: id, heartbeat: last_seen}, stale_after: 30s}
"""


@dataclass
class World:
    """The sources of the exporter's configuration, and where their servers are."""

    config: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, config: str, variable: str, url: str) -> None:
        """Add a source whose URL is in a variable of the environment."""
        self.names.append(name)
        self.config.append(config)
        self.env[variable] = url


def note(text: str) -> None:
    """Tell the user; standard output belongs to the page."""
    print(text, file=sys.stderr, flush=True)


def run(*, once: bool, listen: str | None) -> int:
    """Run the demo until it is interrupted, or once; returns the exit status."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        address = listen or (f"{HOST}:{free_port()}" if once else ADDRESS)
        url = _page_url(address)
        with Children() as children:
            try:
                world = _start(children, address, url)
                if once:
                    _print_page(children, world, url)
                else:
                    _watch(children, url)
            finally:
                # What follows is short; the keeper does it if even that is cut off.
                for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(signum, signal.SIG_IGN)
    except DemoError as error:
        note(f"taskq-exporter demo: {error}")
        return 1
    except KeyboardInterrupt:
        note("\nThe demo has ended: every process is stopped, its folder is removed.")
    return 0


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _page_url(address: str) -> str:
    """The URL of the page at a listen address that is free.

    Raises:
        DemoError: It is no address, or taken.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal():
        raise DemoError(f"--web.listen-address wants HOST:PORT or :PORT, not {address!r}")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host or "0.0.0.0", int(port), type=socket.SOCK_STREAM)[0]  # noqa: S104
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise DemoError(
            f"cannot listen on {address} ({error}): choose another with --web.listen-address :PORT"
        ) from None
    shown = HOST if host in ("", "0.0.0.0", "::") else host  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/metrics"


def _start(children: Children, address: str, url: str) -> World:
    """Start servers, the exporter, workers and producers, in this order: events that nobody follows are lost."""
    world = World()
    server = start_redis(children)
    note(f"redis     {server.name}")
    world.add("shop", CELERY, "CELERY_BROKER_URL", server.url(0))
    if sys.version_info >= (3, 12):
        world.add("web", DJANGO, "TASKQ_DEMO_DJANGO_URL", server.url(1))
    try:
        database, name = start_postgres(children)
    except DemoError as error:
        note(f"postgres  left out: {error}")
    else:
        note(f"postgres  {name}")
        jobs.create(database)
        world.add("billing", POSTGRES, "TASKQ_DEMO_DATABASE_URL", database)
    _start_exporter(children, world, address, url)
    _start_workers(children, world)
    return world


def _start_exporter(children: Children, world: World, address: str, url: str) -> None:
    config = children.folder / "config.yaml"
    config.write_text(f"state: {{dir: {str(children.folder / 'state')!r}}}\nsources:\n" + "".join(world.config))
    flags = [f"--config.file={config}", f"--web.listen-address={address}"]
    children.python("exporter", "taskq_exporter", *flags, env=world.env)
    until = time.monotonic() + START_SECONDS
    while not pages.follows(page := pages.fetch(url), world.names):
        children.check()
        if time.monotonic() > until:
            raise DemoError(f"the exporter does not follow every source; its page is:\n{page}")
        time.sleep(0.1)
    note(f"exporter  {url}")


def _start_workers(children: Children, world: World) -> None:
    app = "taskq_exporter_demo.celery_app"
    worker = ["-A", app, "worker", "-E", "-P", "prefork", "-c", "2", "-Q", CELERY_QUEUES, "-l", "WARNING"]
    children.python("celery-worker", "celery", *worker, env=world.env)
    children.python("celery-producer", app, env=world.env)
    note("celery    a worker with 2 processes")
    if "web" in world.names:
        env = {**world.env, "DJANGO_SETTINGS_MODULE": "taskq_exporter_demo.django_settings"}
        children.python("django-worker", "django", "run_redis_tasks", "--continuous", env=env)
        children.python("django-producer", "taskq_exporter_demo.django_app", env=env)
        note("django    a django-tasks-redis worker")
    else:
        note("django    left out: django-tasks-redis needs Python 3.12 or newer")
    if "billing" in world.names:
        for number in (1, 2):
            children.python(f"jobs-worker-{number}", "taskq_exporter_demo.jobs", "work", env=world.env)
        children.python("jobs-producer", "taskq_exporter_demo.jobs", "produce", env=world.env)
        note("jobs      2 workers of a table in Postgres")


def _print_page(children: Children, world: World, url: str) -> None:
    note("waiting until tasks of each have succeeded and failed")
    until = time.monotonic() + ONCE_SECONDS
    while not pages.has_run(page := pages.fetch(url), world.names):
        children.check()
        if time.monotonic() > until:
            raise DemoError(f"no tasks of each queue system in {ONCE_SECONDS:.0f} s; the exporter's page was:\n{page}")
        time.sleep(0.3)
    sys.stdout.write(page)
    sys.stdout.flush()


def _watch(children: Children, url: str) -> None:
    note(f"Ctrl-C ends the demo and removes {children.folder}\n")
    drawn, on_terminal = 0, sys.stdout.isatty()
    while True:
        children.check()
        answer = pages.fetch(url.removesuffix("/metrics") + "/api/sources")
        if answer:
            lines = [line.text for line in table(sources_from(json.loads(answer)), shutil.get_terminal_size().columns)]
            if on_terminal:  # over the table before
                up = f"\x1b[{drawn}F\x1b[J" if drawn else ""
                print(up + "\n".join(lines), flush=True)
                drawn = len(lines)
            else:
                print("\n".join(lines), end="\n\n", flush=True)
        time.sleep(REDRAW_SECONDS if on_terminal or not answer else APPEND_SECONDS)
